# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in an instance, each with a condition under which it is skipped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._base import change_count
from . import exec as _exec
from .client import Client
from .command_progress import Progress
from .files import FileSession
from .lxd_errors import Forbidden, LxdError, NotFound, NotRun
from .shell import as_user, find_group, find_user

_SHOWN = 2000


@dataclass
class CommandsResult:
    """The result of each command. ``failure`` is the message of the one that failed, after which nothing was run."""

    commands: list[dict[str, Any]] = field(default_factory=list)
    changed: bool = False
    failure: str | None = None


def run_commands(
    client: Client,
    instance: str,
    commands: Sequence[Mapping[str, Any]],
    *,
    check: bool = False,
    deadline: float = 600.0,
    notify: Callable[[str], None] = lambda _text: None,
) -> CommandsResult:
    """Run commands in order, up to the first that fails.

    Each item: ``argv``; ``unless`` (argv of a command whose success makes this one unnecessary), ``creates`` (a path
    whose existence does); ``stdin``, ``environment``, ``user``, ``group``, ``chdir``; ``changed`` False for one that
    only reads, and is therefore run in check mode too; ``accept``, exit statuses that are not a failure; ``sensitive``
    keeps argv out of results and messages; ``progress``, how to read its progress from its output, as `Progress.both`
    takes it, which ``notify`` gets. Each has ``deadline`` seconds.
    """
    for item in commands:
        for option in ("chdir", "creates"):
            if item.get(option) and not item[option].startswith("/"):
                raise LxdError(f"{option}:", f'"{item[option]}" is not an absolute path', code="invalid_value")
    done = CommandsResult()
    with contextlib.ExitStack() as stack:
        session: FileSession | None = None
        for item in commands:
            shown = {} if item.get("sensitive") else {"argv": list(item["argv"])}
            changes = item.get("changed") is not False
            if item.get("creates"):
                session = session or stack.enter_context(FileSession(client, instance))
            if _unnecessary(client, instance, item, session, deadline):
                done.commands.append({**shown, "executed": False})
                continue
            done.changed = done.changed or changes
            if check and changes:
                done.commands.append({**shown, "executed": False})
                continue
            try:
                sinks = Progress.both(item["progress"], notify) if item.get("progress") else None
                command = _command(client, instance, item)
                ended = _exec.run(client, instance, command, deadline=deadline, sinks=sinks)
            except (NotRun, NotFound, Forbidden):
                raise
            except LxdError:
                if changes:
                    change_count.note()
                raise
            if changes:
                change_count.note()
            outputs = [sink.getvalue() for sink in sinks] if sinks else [ended.stdout, ended.stderr]
            stdout, stderr = (data.decode(errors="replace") for data in outputs)
            done.commands.append(
                {**shown, "executed": True, "rc": ended.returncode, "stdout": stdout, "stderr": stderr}
            )
            if ended.returncode not in (item.get("accept") or [0]):
                output = (stderr.strip() or stdout.strip())[-_SHOWN:]
                done.failure = f"{command.label} in instance {instance} ended with exit status {ended.returncode}" + (
                    f": {output}" if output else ""
                )
                break
    return done


def _unnecessary(
    client: Client, instance: str, item: Mapping[str, Any], session: FileSession | None, deadline: float
) -> bool:
    if item.get("creates") and session is not None and session.lstat(item["creates"]) is not None:
        return True
    if not item.get("unless"):
        return False
    condition = _command(client, instance, {**item, "argv": item["unless"], "stdin": None})
    return not _exec.run(client, instance, condition, deadline=deadline).returncode


def _command(client: Client, instance: str, item: Mapping[str, Any]) -> _exec.Command:
    """Return the command of an item, with the user and the group looked up in the instance."""
    command = _exec.Command(
        item["argv"],
        stdin=(item.get("stdin") or "").encode(),
        environment={key: str(value) for key, value in (item.get("environment") or {}).items()},
        cwd=item.get("chdir"),
        name="A command" if item.get("sensitive") else "",
    )
    group = find_group(client, instance, item["group"]) if item.get("group") else None
    if item.get("user"):
        return as_user(command, find_user(client, instance, item["user"]), group)
    if group is not None:
        return replace(command, privileges=[f"--regid={group}", "--keep-groups"])
    return command
