# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in an instance, each with what makes it unnecessary."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._base import change_count
from . import exec as _exec
from .client import Client
from .errors import Forbidden, LxdError, NotFound, NotRun
from .files import FileSession
from .progress import Progress
from .shell import become, group_id, user

_SHOWN = 2000


@dataclass
class CommandsResult:
    """What each command did. ``failure`` is the message for the one that failed, after which nothing was run."""

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
    whose existence does); ``stdin``, ``environment``, ``user``, ``group``, ``chdir``; ``changed`` False for what only
    reads, and is therefore run in check mode too; ``accept``, exit statuses that are no failure; ``sensitive`` keeps
    argv out of results and messages; ``progress``, how far it is, by what it writes, as `Progress.both` takes it, which
    ``notify`` is told. Each has ``deadline`` seconds.
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
                stdin = (item.get("stdin") or "").encode()
                ended = _run(client, instance, item["argv"], item, deadline, stdin=stdin, sinks=sinks)
            except (NotRun, NotFound, Forbidden):
                raise
            except LxdError:
                if changes:
                    change_count.note()
                raise
            if changes:
                change_count.note()
            stdout, stderr = (data.decode(errors="replace") for data in (ended.stdout, ended.stderr))
            done.commands.append(
                {**shown, "executed": True, "rc": ended.returncode, "stdout": stdout, "stderr": stderr}
            )
            if ended.returncode not in (item.get("accept") or [0]):
                name = "A command" if item.get("sensitive") else item["argv"][0]
                said = (stderr.strip() or stdout.strip())[-_SHOWN:]
                done.failure = f"{name} in instance {instance} ended with exit status {ended.returncode}" + (
                    f": {said}" if said else ""
                )
                break
    return done


def _unnecessary(
    client: Client, instance: str, item: Mapping[str, Any], session: FileSession | None, deadline: float
) -> bool:
    if item.get("creates") and session is not None and session.lstat(item["creates"]) is not None:
        return True
    return bool(item.get("unless")) and not _run(client, instance, item["unless"], item, deadline).returncode


def _run(
    client: Client,
    instance: str,
    argv: Sequence[str],
    item: Mapping[str, Any],
    deadline: float,
    *,
    stdin: bytes = b"",
    sinks: tuple[Progress, Progress] | None = None,
) -> _exec.ExecResult:
    environment = {key: str(value) for key, value in (item.get("environment") or {}).items()}
    cwd = item.get("chdir")
    privileges: list[str] = []
    group = group_id(client, instance, item["group"]) if item.get("group") else None
    if item.get("user"):
        privileges, own = become(user(client, instance, item["user"]), group)
        environment = {**own, **environment}
        # the home of root, where a command starts otherwise, is closed to others
        cwd = cwd or "/"
    elif group is not None:
        privileges = [f"--regid={group}", "--keep-groups"]
    ended = _exec.run(
        client,
        instance,
        argv,
        stdin=stdin,
        environment=environment,
        privileges=privileges,
        cwd=cwd,
        deadline=deadline,
        sinks=sinks,
        name="A command" if item.get("sensitive") else argv[0],
    )
    return _exec.ExecResult(ended.returncode, *(sink.getvalue() for sink in sinks)) if sinks else ended
