# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd units of an instance, together with the files they run on.

A unit that was started leaves a stamp: which contents the unit files and all other files had, and which versions of the
files they were: their inode numbers and the times of their last change. As long as these are the same, no file was
changed since, so every start in between, whatever caused it, was one with the same contents. A unit with another
stamp is restarted; one that only reloads is restarted, too, if its unit files differ. Stamps are withdrawn before files
are written, so the next run repairs one that was killed in between.

A unit whose unit file is among the files is ours alone: drop-ins that others have added to it are removed.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
import shlex
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .._base import change_count
from .client import Client
from .exec import ExecResult
from .files import FileSession, FilesResult, apply_files, digest_of
from .lxd_errors import LxdError
from .shell import Shell

STAMPS = "/var/lib/bcm/units"
JOURNAL_LINES = 15

_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "FragmentPath", "DropInPaths"
)  # fmt: skip
_DEFINITIONS = re.compile(r"/(etc|run|usr/lib|usr/local/lib|lib)/systemd/system/")
# where neither packages nor generators put anything
_ADDED = re.compile(r"/(etc|run|usr/local/lib)/systemd/(system|system\.control|transient)/")
_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?")
# `timeout` of coreutils when time was up
_TIMED_OUT = 124
# seconds that `timeout` has to end what is late, and bytes that systemctl and the end of a journal may have
_GRACE = 15.0
_MOST = 2**20
# seconds after the boot of an instance within which others may still be on their way, too, as after a power failure
_BOOT = 600
# a shell's, when there is no such command
_NO_COMMAND = 127


@dataclass
class UnitsResult:
    """The changes that were made, or in check mode would be made."""

    digest: str
    files: list[str] = field(default_factory=list)
    actions: list[dict[str, str]] = field(default_factory=list)
    diff: list[dict[str, str]] = field(default_factory=list)

    def add(self, done: FilesResult) -> None:
        self.files += done.changed
        self.diff += done.diff


@dataclass(frozen=True)
class _State:
    """A unit as systemd and its stamp show it."""

    load: str
    active: str
    sub: str
    enabled: str
    stale_definition: bool
    stamp: str
    #: where its definition was read from
    paths: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        return self.active in ("active", "reloading", "refreshing")

    @property
    def failed(self) -> bool:
        return self.active == "failed" or self.sub == "auto-restart"

    @property
    def begins(self) -> bool:
        """Whether systemd is starting it, maybe again and again until what it needs is there, as after a boot.

        Between two attempts it may be ending.
        """
        return self.active in ("activating", "deactivating")

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
        shell = Shell(client, instance)
        try:
            manager = _Manager(instance, shell, session, deadline)
            foreseen = apply_files(session, files, check=True)
            if foreseen.changed and not check:
                manager.withdraw(names, foreseen.changed)
                apply_files(session, files)
                if any(_DEFINITIONS.match(path) for path in foreseen.changed):
                    manager.reload_definitions()
            result = UnitsResult(foreseen.digest, foreseen.changed, diff=foreseen.diff)
            states = manager.current_states(names, files, result, check)
            stamp = manager.stamp_of(files, result, check) if files else ""
            for unit, name, state in zip(units, names, states, strict=True):
                verbs = plan_unit(unit, state, stamp)
                if verbs and not check:
                    manager.apply(name, state, verbs)
                if verbs:
                    result.actions += [{"unit": name, "action": verb} for verb in verbs]
                    result.diff.append(_diff(name, state, verbs))
                if not check:
                    manager.stamp(name, state, stamp if unit.get("state") != "stopped" else "", files)
            if not check and result.actions:
                begun = {name for name, state in zip(names, states, strict=True) if state.begins}
                manager.require_health(names, begun)
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
    elif state.begins and not current:
        verbs.append("restart")
    else:
        verbs.append("start")
    return verbs


def stamp(files: Sequence[Mapping[str, Any]], versions: Mapping[str, str]) -> str:
    """Two digests, of unit files and of all others: what is wanted of each, and which version of it is there."""
    digests = {True: hashlib.sha256(), False: hashlib.sha256()}
    for item in files:
        path, content = item["path"], digest_of(item.get("content") or b"").hex()
        wanted = [item.get(key) for key in ("state", "target", "mode", "owner", "group")]
        own = digests[bool(_DEFINITIONS.match(path))]
        own.update(json.dumps([path, content, wanted, versions.get(path)]).encode())
    # what was added to a directory of drop-ins, and removed again
    for path in sorted(path for path in versions if path not in {item["path"] for item in files}):
        digests[True].update(json.dumps([path, versions[path]]).encode())
    return " ".join(digest.hexdigest() for digest in (digests[True], digests[False]))


def properties(shown: str, count: int) -> list[dict[str, str]]:
    """Parse the output of `systemctl show` for ``count`` units. Raises ValueError."""
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.split("\n\n")]
    if len(blocks) != count or not all(name in block for name in _PROPERTIES for block in blocks):
        raise ValueError("it does not show each of them with its state")
    return blocks


def find_foreign_definitions(files: Sequence[Mapping[str, Any]], states: Mapping[str, _State]) -> list[str]:
    """Return files that define our units, but are not among the given files."""
    wanted = {item["path"] for item in files if item.get("state") != "absent"}
    defined = {posixpath.basename(path) for path in wanted if _DEFINITIONS.match(path)}
    read = {path for name, state in states.items() if _full(name) in defined for path in state.paths}
    return sorted(path for path in read - wanted if _ADDED.match(path))


class _Manager:
    """systemd of one instance."""

    def __init__(self, instance: str, shell: Shell, session: FileSession, deadline: float) -> None:
        self._instance = instance
        self._shell = shell
        self._session = session
        self._deadline = deadline

    def reload_definitions(self) -> None:
        self._systemctl("daemon-reload", "reload the unit files")

    def withdraw(self, names: Sequence[str], changed: Sequence[str]) -> None:
        """Forget with which of the files that are about to change units were started."""
        for name in names:
            path = f"{STAMPS}/{name}.digest"
            before = self._stamped(name).split()[:1]
            if before and not any(_DEFINITIONS.match(item) for item in changed):
                self._session.write(path, f"{before[0]}\n".encode(), mode=0o600, uid=0, gid=0)
            elif before:
                self._session.remove(path)

    def current_states(
        self, names: Sequence[str], files: Sequence[Mapping[str, Any]], result: UnitsResult, check: bool
    ) -> list[_State]:
        """The states, once systemd knows the definitions as they are on disk, and what others added to them is gone."""
        units = [posixpath.basename(item["path"]) for item in files if _DEFINITIONS.match(item["path"])]
        # neither drop-ins nor templates are units
        defined = [_checked(unit) for unit in units if not unit.endswith(".conf") and "@." not in unit]
        known = list(dict.fromkeys([*names, *defined]))
        states = self.states(known)
        if not check and any(state.stale_definition for state in states):
            self.reload_definitions()
            states = self.states(known)
        if found := find_foreign_definitions(files, dict(zip(known, states, strict=True))):
            result.add(apply_files(self._session, [{"path": path, "state": "absent"} for path in found], check=True))
            if not check:
                self.withdraw(names, found)
                apply_files(self._session, [{"path": path, "state": "absent"} for path in found])
                self.reload_definitions()
                states = self.states(known)
        return states[: len(names)]

    def stamp_of(self, files: Sequence[Mapping[str, Any]], result: UnitsResult, check: bool) -> str:
        """The stamp of the files as they are now; in check mode, of what would change, none that was left."""
        paths = [item["path"] for item in files if item.get("state") != "directory" or item.get("exclusive")]
        paths += {posixpath.dirname(path) for path in paths if _DEFINITIONS.match(path) and path.endswith(".conf")}
        # the directory of a service may have been removed meanwhile
        quoted = " ".join(shlex.quote(path) for path in paths)
        done = self._run(f"stat --printf='%n\\0%i %z\\0' -- {quoted} 2>/dev/null")
        words = done.stdout.decode(errors="surrogateescape").split("\0")
        versions = dict(zip(words[::2], words[1::2], strict=False))
        return stamp(files, {**versions, **dict.fromkeys(result.files, "is to change")} if check else versions)

    def states(self, names: Sequence[str]) -> list[_State]:
        if not names:
            return []
        units = " ".join(shlex.quote(_full(name)) for name in names)
        show = f"systemctl show --property={','.join(_PROPERTIES)} -- {units}"
        done = self._run(show)
        if done.returncode not in (0, _NO_COMMAND):
            # An instance that has just been started: its systemd does not answer yet.
            self._run(f"timeout {self._deadline:g} sh -c 'until systemctl show; do sleep 0.1; done' >/dev/null 2>&1")
            done = self._run(show)
        if done.returncode:
            raise LxdError(
                f"Failed to read the units of instance {self._instance}:",
                _text(done.stderr),
                code="command_failed",
                about=f"instance {self._instance}",
            )
        try:
            blocks = properties(_text(done.stdout), len(names))
        except ValueError as error:
            raise LxdError(
                f"Failed to read the units of instance {self._instance}:",
                str(error),
                "see whether its systemctl is Debian's",
                code="damaged",
                about=f"instance {self._instance}",
            ) from error
        return [self._state(name, block) for name, block in zip(names, blocks, strict=True)]

    def _stamped(self, name: str) -> str:
        path = f"{STAMPS}/{name}.digest"
        lines = self._session.read(path).decode(errors="replace").splitlines() if self._session.lstat(path) else []
        return lines[0] if lines else ""

    def _state(self, name: str, shown: Mapping[str, str]) -> _State:
        return _State(
            load=shown["LoadState"],
            active=shown["ActiveState"],
            sub=shown["SubState"],
            enabled=shown["UnitFileState"],
            stale_definition=shown["NeedDaemonReload"] == "yes",
            stamp=self._stamped(name),
            paths=(shown["FragmentPath"], *shown["DropInPaths"].split()),
        )

    def apply(self, name: str, state: _State, verbs: Sequence[str]) -> None:
        starting = not {"start", "restart", "reload"}.isdisjoint(verbs)
        if starting and state.load in ("not-found", "masked", "bad-setting", "error"):
            reason = {"not-found": "does not exist", "masked": "is masked"}.get(state.load, "has a faulty unit file")
            raise LxdError(
                f"Failed to start {name} in instance {self._instance}:",
                f"the unit {reason}",
                code="service_failed",
                about=f"{name} in instance {self._instance}",
            )
        if starting and state.active != "inactive":
            # or the limit on starts would hold, whatever has used it up
            self._systemctl(f"reset-failed {shlex.quote(_full(name))}", f"forget the failure of {name}")
        for verb in verbs:
            patient = state.begins and verb == "start" and self._has_just_booted
            self._systemctl(f"{verb} {shlex.quote(_full(name))}", f"{verb} {name}", journal_of=name, patient=patient)
            change_count.note()

    def stamp(self, name: str, state: _State, stamp: str, files: Sequence[Mapping[str, Any]]) -> None:
        """Keep a stamp, and below it what was written where, as sha256sum has it."""
        path = f"{STAMPS}/{name}.digest"
        if state.stamp == stamp:
            return
        if not stamp:
            self._session.remove(path)
            return
        lines = [stamp, *(f"{digest_of(item.get('content') or b'').hex()}  {item['path']}" for item in files
                          if item.get("state") in (None, "file"))]  # fmt: skip
        self._session.make_parents(path)
        # A digest allows guesses at the content, so it is as private as the file.
        self._session.write(path, "".join(f"{line}\n" for line in lines).encode(), mode=0o600, uid=0, gid=0)

    def require_health(self, names: Sequence[str], begun: Collection[str]) -> None:
        """A service that dies at once was started all the same, says systemd, if it does not tell when it is ready.

        Those that systemd was starting already (``begun``) have until the deadline if the instance has just booted.
        """
        deadline = time.monotonic() + self._deadline
        for name, state in zip(names, self.states(names), strict=True):
            while state.failed and name in begun and self._has_just_booted and time.monotonic() < deadline:
                self._systemctl(f"start {shlex.quote(_full(name))}", f"start {name}", journal_of=name, patient=True)
                (state,) = self.states([name])
            if state.failed:
                raise LxdError(
                    f"{name} in instance {self._instance}",
                    f"failed after its start{self._journal(name)}",
                    code="service_failed",
                )

    @cached_property
    def _has_just_booted(self) -> bool:
        """Whether what a unit needs of other instances may not be there yet. Later, its failure is one of its own."""
        done = self._run("date +%s; systemctl show --timestamp=unix --property=UserspaceTimestamp --value")
        found = re.fullmatch(r"(\d+)\n@(\d+)", _text(done.stdout))
        return found is not None and int(found[1]) - int(found[2]) < _BOOT

    def _run(self, command: str) -> ExecResult:
        # a deadline of its own: what keeps the other is a program of the instance
        return self._shell.run(command, deadline=self._deadline + _GRACE, most=_MOST)

    def _systemctl(self, words: str, what: str, *, journal_of: str | None = None, patient: bool = False) -> None:
        """Run it; if ``patient``, until it succeeds. Raises LxdError if it fails, or is not done at the deadline."""
        command = f"systemctl --quiet {words}"
        if patient:
            command = f"sh -c {shlex.quote(f'until {command}; do sleep 0.5; done')}"
        done = self._run(f"timeout {self._deadline:g} {command}")
        if not done.returncode:
            return
        if done.returncode == _TIMED_OUT:
            reason = f"not done after {self._deadline:g} s"
        else:
            # The rest of it tells a person to look into the journal, which follows.
            reason = (_text(done.stderr).splitlines() or [f"exit status {done.returncode}"])[0]
        journal = self._journal(journal_of) if journal_of else ""
        raise LxdError(f"Failed to {what} in instance {self._instance}:", f"{reason}{journal}", code="service_failed")

    def _journal(self, name: str) -> str:
        unit = shlex.quote(_full(name))
        # What a program said last may still be on its way.
        read = f"journalctl --no-pager --quiet --output=cat --lines={JOURNAL_LINES} --unit={unit}"
        done = self._run(f"journalctl --sync >/dev/null 2>&1; {read}")
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
        raise LxdError(f'"{name}"', "is not the name of a unit", code="invalid_value")
    return name.removesuffix(".service")


def _full(name: str) -> str:
    suffixes = (".socket", ".timer", ".path", ".mount", ".automount", ".target", ".swap", ".slice", ".scope", ".device")
    return name if name.endswith(suffixes) else f"{name}.service"


def _text(data: bytes) -> str:
    return data.decode(errors="replace").strip()
