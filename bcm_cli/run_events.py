# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of runs of `bcm` itself, and of who is let in by it, which the stack collector writes.

They are kept in a file beside the secrets until it has written them, which may be in a later run.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.disk import write_files
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.locks import hold_lock
from ansible_collections.bcm.core.plugins.module_utils._base.read import read_moment
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program

from . import ca_session, setup
from .connect import connect
from .datacenter import DataCenter
from .stacks import catalogue

STACK = "collector"
_PROGRAM = Path("scripts/tell.py")
_DEADLINE = 60.0
#: the most that are kept; older ones are given up
_MOST = 1000


class Run:
    """A run that changes stacks. ``outcome`` is the file in which the playbook says what it did."""

    def __init__(self, datacenter: DataCenter, state: str, stacks: Sequence[str], outcome: Path) -> None:
        self.outcome = outcome
        self._datacenter = datacenter
        self._run = secrets.token_hex(16)
        self._about = {"state": state, "stacks": list(stacks)}
        self._certificates = _certificates(datacenter)
        self._held: list[Mapping[str, Any]] = []
        self._keep([self._event("started", self._about)])

    def end(self, status: int) -> None:
        """Have it written how the run ended, by the exit status of the playbook."""
        try:
            said = json.loads(self.outcome.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it was killed before it said anything
            said = {"changes": [], "errors": [], "report": {}}
        changes = [self._event("change", {"number": number, **item}) for number, item in enumerate(said["changes"], 1)]
        issued = _issued(self._run, self._certificates, _certificates(self._datacenter))
        backups: list[dict[str, Any]] = []
        if status == 0:
            ended = self._event("run", {**self._about, **describe(said["report"])})
            # Nothing of the run is in it, so a copy that was there before is not written again.
            backups = [_event("backup", item) for item in find_backups(said["report"])]
        else:
            failed = {"interrupted": status > 128, "errors": said["errors"]}
            ended = self._event("failed", {**self._about, **failed})
        self._keep([*changes, *issued, *backups, ended])
        # Who interrupts a run does not want to wait.
        if status <= 128:
            try:
                deliver(self._datacenter)
            except (BcmError, OSError) as error:
                # Why a run failed was said.
                if status == 0:
                    setup.step(f"The events of this run are kept for the next one: {error}")

    def _event(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return _event(name, {"run": self._run, **body})

    def _keep(self, events: Sequence[Mapping[str, Any]]) -> None:
        self._held += events
        if _keep(self._datacenter, self._held):
            self._held = []


@contextmanager
def run_of(datacenter: DataCenter, state: str, stacks: Sequence[str]) -> Iterator[Run]:
    """A run that begins now."""
    with tempfile.TemporaryDirectory(prefix="bcm-") as folder:
        yield Run(datacenter, state, stacks, Path(folder) / "outcome.json")


@contextmanager
def tell_certificates(datacenter: DataCenter) -> Iterator[None]:
    """Have the next run write which certificates are issued and revoked meanwhile, whatever becomes of the command."""
    issued, revoked = _certificates(datacenter), _revoked(datacenter)
    try:
        yield
    finally:
        run = secrets.token_hex(16)
        events = _issued(run, issued, _certificates(datacenter))
        events += [
            _event("revocation", {"run": run, "name": name, "serial": serial, "reason": reason})
            for serial, (name, reason) in _revoked(datacenter).items()
            if serial not in revoked
        ]
        if events:
            _keep(datacenter, events)


def tell_access(datacenter: DataCenter, change: str, client: str, by: str, to: str, topics: Sequence[str] = ()) -> None:
    """Have the next run write that a client was ``granted`` access, or that it was ``revoked``.

    That is by a certificate for the local network (``lan``), to a stack, or by a key (``onion``), to an onion service.
    """
    body = {"change": change, "client": client, "by": by, "to": to, "topics": list(topics)}
    _keep(datacenter, [_event("access", {"run": secrets.token_hex(16), **body})])


def deliver(datacenter: DataCenter) -> None:
    """Have the events written that are kept. Without the stack collector there are none. Raises BcmError, OSError."""
    path = _path(datacenter)
    if not path.exists():
        return
    with hold_lock(path):
        if kept := _read(path):
            with connect(datacenter) as client:
                # It is asked for it alone: the state of all instances takes LXD much longer.
                if client.find(f"/1.0/instances/{STACK}"):
                    request = {"version": setup.version(), "now": datetime.now(UTC).isoformat(), "events": kept}
                    program = catalogue(datacenter)[STACK].role_path / _PROGRAM
                    ask_program(client, STACK, program, request, shape={"written": int}, deadline=_DEADLINE)
        path.unlink()


def describe(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the event says of a run that ended as it should, from its report."""
    stacks, exceptions = report.get("stacks", ()), report.get("exceptions", ())
    return {
        "stacks": [stack["stack"] for stack in stacks],
        "exceptions": [f"{item['stack']} {item['to']}:{item['port'] or '*'} {item['protocol']}" for item in exceptions],
        "warnings": list(report.get("warnings", ())),
        "versions": {stack["stack"]: stack["version"] for stack in stacks if stack["version"]},
    }


def find_backups(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The newest copy of each backup that a report knows: of what, where, and when it was made."""
    found = []
    for stack in report.get("stacks", ()):
        for item in (stack.get("facts") or {}).get("backups", ()):
            # Programs of other people say it, too.
            with suppress(ValueError, KeyError, TypeError):
                made = read_moment(item["made"]).isoformat()
                found.append({"of": str(item["of"]), "at": str(item["at"]), "made": made})
    return found


def _issued(run: str, before: Container[str], now: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """An event of each certificate that was not there before, as `_certificates` has them."""
    return [
        _event("certificate", {"run": run, "name": name, "serial": serial, "not_after": end})
        for serial, (name, end) in now.items()
        if serial not in before
    ]


def _event(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    time = datetime.now(UTC).isoformat()
    return {"topic": f"{STACK}.{name}", "key": name, "time": time, "body": body}


def _keep(datacenter: DataCenter, events: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is a place to keep events, and they are there."""
    path = _path(datacenter)
    # Where there are no secrets, nothing was made yet; a run that is refused leaves it so.
    if not path.parent.is_dir():
        return False
    try:
        with hold_lock(path):
            kept = [*_read(path), *events][-_MOST:]
            write_files((path, "".join(json.dumps(event) + "\n" for event in kept), 0o600))
    except OSError as error:
        setup.step(f"The events of this command are lost: {path}: {error.strerror}")
        return False
    return True


def _path(datacenter: DataCenter) -> Path:
    return datacenter.secrets / f"{datacenter.chain}.events.jsonl"


def _read(path: Path) -> list[dict[str, Any]]:
    """The events in the file; none if it is not as it was written."""
    try:
        return [dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return []


def _certificates(datacenter: DataCenter) -> dict[str, tuple[str, str]]:
    """The certificates of stacks and others by their serials: for whom, and until when."""
    try:
        leaves = ca_session.read_only(datacenter).read_database().leaves
    except BcmError:  # the run itself says so
        return {}
    return {f"{leaf.certificate.serial:x}": (name, leaf.certificate.end.isoformat()) for name, leaf in leaves.items()}


def _revoked(datacenter: DataCenter) -> dict[str, tuple[str, str]]:
    """The certificates that are revoked, by their serials: whose they were, and why they are."""
    try:
        serials = ca_session.read_only(datacenter).read_database().serials
    except BcmError:  # the command itself says so
        return {}
    return {f"{serial:x}": (item.name, item.reason) for serial, item in serials.items() if item.revoked}
