# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd units of an instance, together with the files they run on.

A unit that runs leaves a stamp: the digests of the unit files and of all files it was started with. A unit whose stamp
is not that of the files is restarted, whoever wrote them and whenever, so a run that is killed between the two is
healed by the next. What only reloads is restarted, too, when unit files are not those it was started with.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .client import Client
from .errors import LxdError
from .files import FileSession, apply_files
from .shell import Shell

STAMPS = "/var/lib/bcm/units"
JOURNAL_LINES = 15

_PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload")
_DEFINITIONS = re.compile(r"/(etc|run|usr/lib|usr/local/lib|lib)/systemd/system/")
_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?")
# `timeout` of coreutils when time was up
_TIMED_OUT = 124
# a shell's, when there is no such command
_NO_COMMAND = 127


@dataclass
class UnitsResult:
    """What was done, or in check mode would be done."""

    digest: str
    files: list[str] = field(default_factory=list)
    actions: list[dict[str, str]] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _State:
    """A unit as systemd and its stamp show it."""

    load: str
    active: str
    sub: str
    enabled: str
    stale_definition: bool
    stamp: str

    @property
    def runs(self) -> bool:
        return self.active in ("active", "reloading", "refreshing")

    @property
    def failed(self) -> bool:
        return self.active == "failed" or self.sub == "auto-restart"

    def __str__(self) -> str:
        return ", ".join(word for word in (self.active, self.enabled) if word)


def apply_units(
    client: Client,
    instance: str,
    files: Sequence[Mapping[str, Any]],
    units: Sequence[Mapping[str, Any]],
    *,
    check: bool = False,
    deadline: float = 120.0,
) -> UnitsResult:
    """Write ``files`` (as apply_files) and bring ``units`` to their states, in the order given.

    Each unit: ``name`` (of a service if it has no suffix); ``state`` started or stopped; ``enabled`` (None: as
    started); ``action`` restart or reload, when the files are not those it was started with. Every start has
    ``deadline`` seconds; LxdError with the end of the unit's journal if it fails.
    """
    names = [_checked(unit["name"]) for unit in units]
    with FileSession(client, instance) as session:
        written = apply_files(session, files, check=check)
        stamp = f"{_digest_of_definitions(files)} {written.digest}" if files else ""
        result = UnitsResult(stamp, written.changed, diff=written.diff)
        shell = Shell(client, instance)
        try:
            manager = _Manager(instance, shell, session, deadline)
            if not check and any(_DEFINITIONS.match(path) for path in written.changed):
                manager.reload_definitions()
            states = manager.states(names)
            if not check and any(state.stale_definition for state in states):
                manager.reload_definitions()
                states = manager.states(names)
            for unit, name, state in zip(units, names, states, strict=True):
                verbs = plan_unit(unit, state, stamp)
                if verbs and not check:
                    manager.apply(name, state, verbs)
                if verbs:
                    result.actions += [{"unit": name, "action": verb} for verb in verbs]
                    result.diff.append(_diff(name, state, verbs))
                if not check:
                    manager.stamp(name, state, stamp if unit.get("state") != "stopped" else "")
            if not check and result.actions:
                manager.require_health(names)
        finally:
            shell.close()
    return result


def plan_unit(unit: Mapping[str, Any], state: _State, stamp: str) -> list[str]:
    """The verbs of systemctl that bring a unit from the state it is in to the one it is wanted in."""
    verbs = []
    started = unit.get("state") != "stopped"
    enabled = unit.get("enabled")
    if enabled is None and started:
        enabled = True
    if enabled and state.enabled in ("disabled", ""):
        verbs.append("enable")
    elif enabled is False and state.enabled == "enabled":
        verbs.append("disable")
    current = state.stamp == stamp
    if not started:
        if state.active not in ("inactive", "failed"):
            verbs.append("stop")
    elif state.runs:
        if not current:
            reloads = stamp.split()[:1] == state.stamp.split()[:1] and unit.get("action") == "reload"
            verbs.append("reload" if reloads else "restart")
    elif state.active == "activating" and not current:
        verbs.append("restart")
    else:
        verbs.append("start")
    return verbs


def _digest_of_definitions(files: Sequence[Mapping[str, Any]]) -> str:
    found = [[item["path"], str(item.get("content"))] for item in files if _DEFINITIONS.match(item["path"])]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


class _Manager:
    """systemd of one instance."""

    def __init__(self, instance: str, shell: Shell, session: FileSession, deadline: float) -> None:
        self._instance = instance
        self._shell = shell
        self._session = session
        self._deadline = deadline

    def reload_definitions(self) -> None:
        self._systemctl("daemon-reload", "reload the unit files")

    def states(self, names: Sequence[str]) -> list[_State]:
        if not names:
            return []
        units = " ".join(shlex.quote(_full(name)) for name in names)
        show = f"systemctl show --property={','.join(_PROPERTIES)} -- {units}"
        done = self._shell.run(show)
        if done.returncode not in (0, _NO_COMMAND):
            # An instance that has just been started: its systemd does not answer yet.
            self._shell.run(
                f"timeout {self._deadline:g} sh -c 'until systemctl show; do sleep 0.1; done' >/dev/null 2>&1"
            )
            done = self._shell.run(show)
        if done.returncode:
            raise LxdError(f"Failed to read the units of instance {self._instance}: {_text(done.stderr)}")
        blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in _text(done.stdout).split("\n\n")]
        return [self._state(name, block) for name, block in zip(names, blocks, strict=True)]

    def _state(self, name: str, shown: Mapping[str, str]) -> _State:
        path = f"{STAMPS}/{name}.digest"
        stamp = self._session.read(path).decode().strip() if self._session.lstat(path) else ""
        return _State(
            load=shown["LoadState"],
            active=shown["ActiveState"],
            sub=shown["SubState"],
            enabled=shown["UnitFileState"],
            stale_definition=shown["NeedDaemonReload"] == "yes",
            stamp=stamp,
        )

    def apply(self, name: str, state: _State, verbs: Sequence[str]) -> None:
        starting = not {"start", "restart", "reload"}.isdisjoint(verbs)
        if starting and state.load in ("not-found", "masked", "bad-setting", "error"):
            reason = {"not-found": "does not exist", "masked": "is masked"}.get(state.load, "has a faulty unit file")
            raise LxdError(f"Failed to start {name} in instance {self._instance}: the unit {reason}")
        if starting and state.active == "failed":
            # or the limit on starts would hold
            self._systemctl(f"reset-failed {shlex.quote(_full(name))}", f"forget the failure of {name}")
        for verb in verbs:
            self._systemctl(f"{verb} {shlex.quote(_full(name))}", f"{verb} {name}", journal_of=name)

    def stamp(self, name: str, state: _State, stamp: str) -> None:
        path = f"{STAMPS}/{name}.digest"
        if state.stamp == stamp:
            return
        if not stamp:
            self._session.remove(path)
            return
        self._session.make_parents(path)
        self._session.write(path, f"{stamp}\n".encode(), mode=0o644, uid=0, gid=0)

    def require_health(self, names: Sequence[str]) -> None:
        """A service that dies at once was started all the same, says systemd, if it does not tell when it is ready."""
        for name, state in zip(names, self.states(names), strict=True):
            if state.failed:
                raise LxdError(f"{name} in instance {self._instance} failed after its start{self._journal(name)}")

    def _systemctl(self, words: str, what: str, *, journal_of: str | None = None) -> None:
        done = self._shell.run(f"timeout {self._deadline:g} systemctl --quiet {words}")
        if not done.returncode:
            return
        if done.returncode == _TIMED_OUT:
            reason = f"not done after {self._deadline:g} s"
        else:
            # The rest of it tells a person to look into the journal, which follows.
            reason = (_text(done.stderr).splitlines() or [f"exit status {done.returncode}"])[0]
        journal = self._journal(journal_of) if journal_of else ""
        raise LxdError(f"Failed to {what} in instance {self._instance}: {reason}{journal}")

    def _journal(self, name: str) -> str:
        unit = shlex.quote(_full(name))
        done = self._shell.run(f"journalctl --no-pager --quiet --output=cat --lines={JOURNAL_LINES} --unit={unit}")
        lines = _text(done.stdout)
        return f". The end of its journal:\n{lines}" if lines else ""


def _diff(name: str, state: _State, verbs: Sequence[str]) -> dict[str, str]:
    header = f"unit {name}"
    return {
        "before_header": header,
        "after_header": header,
        "before": f"{state}\n",
        "after": f"{state}\n" + "".join(f"{verb}\n" for verb in verbs),
    }


def _checked(name: str) -> str:
    """The name a stamp carries: a service's without its suffix."""
    if not _NAME.fullmatch(name):
        raise LxdError(f'"{name}" is not the name of a unit')
    return name.removesuffix(".service")


def _full(name: str) -> str:
    suffixes = (".socket", ".timer", ".path", ".mount", ".automount", ".target", ".swap", ".slice", ".scope", ".device")
    return name if name.endswith(suffixes) else f"{name}.service"


def _text(data: bytes) -> str:
    return data.decode(errors="replace").strip()
