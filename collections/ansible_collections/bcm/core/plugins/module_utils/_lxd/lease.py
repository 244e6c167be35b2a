# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock of a data center at its endpoint: one run at a time, from whatever controller.

It is a profile of the default project, since the server keeps the names of profiles unique: of two that make it at
once, one is told that it exists. It names its holder and its end, by the clock of the server, so that no two
controllers need to have the same time. A keeper, a process beside the run, renews it, and deletes it when the run has
ended, however it ended. A run on the same machine that has died with its keeper holds nothing.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, cast

from .._base.errors import BcmError
from .._base.read import read_shaped
from .client import Client, quoted
from .lxd_errors import LxdError, NotFound, PreconditionFailed

_KEY = "user.bcm.lock"
_PROJECT = "default"
_DESCRIPTION = "Lock of ", ", deleted when the run has ended"
# Seconds that a lock lives without being renewed, and how often it is.
LEASE = 60.0
_BEAT = 15.0
# Seconds to wait for a keeper whose run has ended.
_PATIENCE = 20.0
# Seconds after which two concurrent writes are settled: the server compares an ETag some moments before it writes.
_SETTLED = 0.5
#: of a holder in JSON, and the last second that a date has
_SHAPE = {
    **dict.fromkeys(("nonce", "user", "host", "place", "run_started", "keeper_started"), str),
    **dict.fromkeys(("run", "keeper"), int),
    **dict.fromkeys(("since", "until"), (int, float)),
}
_LAST = datetime.max.replace(tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Holder:
    """The holder of a lock: a run and its keeper, as processes of a place, which is a boot of a machine."""

    nonce: str
    user: str
    host: str
    place: str
    run: int
    run_started: str
    keeper: int
    keeper_started: str
    since: float  # seconds since 1970, by the server's clock
    until: float

    def is_run(self, other: Holder) -> bool:
        return (self.place, self.run, self.run_started) == (other.place, other.run, other.run_started)


def holder_in(text: str) -> Holder:
    """The holder that a lock names. Raises ValueError."""
    found = read_shaped(text, _SHAPE)
    if not all(0 <= found[key] <= _LAST for key in ("since", "until")):
        raise ValueError("it has no points in time")
    return Holder(**{key: found[key] for key in _SHAPE})


class Lease:
    """The lock ``name`` of what people know as ``title``, on behalf of the process ``run``."""

    def __init__(self, client: Client, name: str, title: str, run: int, keeper: int | None = None) -> None:
        keeper = keeper or os.getpid()
        self._client, self._name, self._title = client, name, title
        self._path = f"/1.0/profiles/{quoted(name)}"
        self._own = Holder(
            nonce=secrets.token_hex(16),
            user=getpass.getuser(),
            host=socket.gethostname(),
            place=_place(),
            run=run,
            run_started=_started(run) or "",
            keeper=keeper,
            keeper_started=_started(keeper) or "",
            since=0.0,
            until=0.0,
        )

    @classmethod
    def of(cls, client: Client, name: str, title: str, holder: Holder) -> Lease:
        """The lock that a holder has."""
        lease = cls(client, name, title, holder.run, holder.keeper)
        lease._own = holder
        return lease

    @property
    def holder(self) -> Holder:
        """Whoever takes it by `acquire`."""
        return self._own

    def acquire(self) -> bool:
        """Take the lock; False if this very run has it already. Raises BcmError if another one holds it."""
        end = time.monotonic() + _PATIENCE
        while True:
            holder, etag = self._read()
            now = self._now()
            wanted = replace(self._own, since=now, until=now + LEASE)
            if holder is None:
                if self._made(wanted):
                    self._own = wanted
                    return True
            elif holder.is_run(self._own):
                return False
            elif not _is_held(holder, now):
                if self._taken_over(wanted, etag):
                    self._own = wanted
                    return True
            elif not _is_ending(holder) or time.monotonic() > end:
                raise self._busy(holder)
            if time.monotonic() > end + _PATIENCE:
                raise LxdError(
                    f"{self._title}:", "its lock changes hands again and again", "run again later", code="busy"
                )
            time.sleep(0.05)

    def refuse_others(self) -> None:
        """Raise BcmError if another run holds the lock."""
        holder, _etag = self._read()
        if holder is not None and not holder.is_run(self._own) and _is_held(holder, self._now()):
            raise self._busy(holder)

    def renew(self) -> bool:
        """Hold it for another while; False if another run has taken it over."""
        holder, etag = self._read()
        if holder is None or holder.nonce != self._own.nonce:
            return False
        with contextlib.suppress(PreconditionFailed):  # the next one reads what it is then
            self._write(replace(self._own, until=self._now() + LEASE), etag)
        return True

    def release(self) -> None:
        """Give it up, if it is still ours."""
        holder, _etag = self._read()
        if holder is not None and holder.nonce == self._own.nonce:
            self._client.call("DELETE", self._path, what=f"delete the lock {self._name}", project=_PROJECT)

    def _made(self, holder: Holder) -> bool:
        try:
            body = {"name": self._name, **self._body(holder)}
            self._client.call("POST", "/1.0/profiles", body, what=f"make the lock {self._name}", project=_PROJECT)
        except LxdError:
            if self._read()[0] is None:
                raise
            return False
        return True

    def _taken_over(self, holder: Holder, etag: str | None) -> bool:
        try:
            self._write(holder, etag)
        except (PreconditionFailed, NotFound):
            return False
        time.sleep(_SETTLED)
        there = self._read()[0]
        return there is not None and there.nonce == holder.nonce

    def _write(self, holder: Holder, etag: str | None) -> None:
        what = f"renew the lock {self._name}"
        self._client.call("PUT", self._path, self._body(holder), what=what, etag=etag, project=_PROJECT)

    def _body(self, holder: Holder) -> dict[str, Any]:
        return {
            "description": f"{_DESCRIPTION[0]}{self._title}{_DESCRIPTION[1]}",
            "config": {_KEY: json.dumps(asdict(holder), sort_keys=True)},
            "devices": {},
        }

    def _read(self) -> tuple[Holder | None, str | None]:
        try:
            body, etag = self._client.read(self._path, project=_PROJECT)
        except NotFound:
            return None, None
        try:
            return holder_in(body["config"][_KEY]), etag
        except (KeyError, ValueError) as error:
            raise LxdError(
                f"Profile {self._name} of project {_PROJECT} at {self._client.endpoint.name}",
                "has the name of a lock but is not one",
                "rename it",
                code="conflict",
            ) from error

    def _now(self) -> float:
        """The time of the server."""
        with self._client.stream("GET", "/1.0", project=None) as response:
            return parsedate_to_datetime(response.headers["Date"]).timestamp()

    def _busy(self, holder: Holder) -> BcmError:
        who = f"{_shown(holder.user)} on {_shown(holder.host)} (process {holder.run})"
        return BcmError(
            self._title,
            f"is being changed by {who} since {_time(holder.since)}, and this run has changed nothing",
            "wait until that one has ended, or end it there, and run again (if that machine is gone, its lock ends "
            f"at {_time(holder.until)} by the clock of the server)",
            code="busy",
        )


def refuse_other_runs(client: Client, run: int, name: str | None = None) -> None:
    """Raise BcmError if a run other than the process ``run`` holds the lock ``name``, or any lock if it is None."""
    for body in client.get("/1.0/profiles", project=_PROJECT, recursion=1):
        if _KEY in body["config"] and name in (None, body["name"]):
            title = body["description"].removeprefix(_DESCRIPTION[0]).removesuffix(_DESCRIPTION[1])
            Lease(client, body["name"], title, run).refuse_others()


def hold(client: Client, options: Mapping[str, Any], name: str, title: str, run: int) -> None:
    """Take the lock, and start a keeper for it; ``options`` are those of the client. Raises BcmError.

    The lock is taken here, in the keeper's name: a keeper takes its time to start.
    """
    root = str(Path(__file__).resolve().parents[6])
    keeper = subprocess.Popen(
        [sys.executable, "-c", f"from {__name__} import keep; keep()"],
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the run
    )
    lease = Lease(client, name, title, run, keeper.pid)
    asked = cast(IO[bytes], keeper.stdin)
    try:
        if lease.acquire():
            told = {"options": options, "name": name, "title": title, "holder": asdict(lease.holder)}
            asked.write(json.dumps(told).encode())
        asked.close()  # a keeper that is told nothing ends
    except OSError as error:
        lease.release()
        fault = f"was not locked, its keeper ended at once: {error.strerror}"
        raise BcmError(title, fault, "run again, with -vvv", code="command_failed") from error
    except BcmError:
        keeper.kill()
        keeper.wait()
        raise


def keep() -> None:
    """Be the keeper of a lock that was taken in this process's name: hold it as long as the run lives."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    told = sys.stdin.read()
    if told:
        asked = json.loads(told)
        holder = Holder(**asked["holder"])
        lease = Lease.of(Client(**asked["options"]), asked["name"], asked["title"], holder)
        _keep(lease, holder)


def _keep(lease: Lease, holder: Holder) -> None:
    with contextlib.suppress(ProcessLookupError):
        run = os.pidfd_open(holder.run)
        # By now, the number may be that of another process.
        while _is_alive(*_processes(holder)[0]) and not select.select([run], [], [], _BEAT)[0]:
            # The server may be away for a while. A keeper that comes too late, and finds another holder, ends the run.
            with contextlib.suppress(LxdError):
                if not lease.renew():
                    signal.pidfd_send_signal(run, signal.SIGINT)
                    return
    with contextlib.suppress(LxdError):
        lease.release()


def _is_held(holder: Holder, now: float) -> bool:
    """Whether the lock counts: on this machine by its processes, elsewhere by its time."""
    if holder.place == _place():
        return any(_is_alive(*process) for process in _processes(holder))
    return holder.until > now


def _is_ending(holder: Holder) -> bool:
    """Whether its run has ended on this machine, so that its keeper is about to give it up."""
    return holder.place == _place() and not _is_alive(*_processes(holder)[0])


def _processes(holder: Holder) -> tuple[tuple[int, str], tuple[int, str]]:
    return (holder.run, holder.run_started), (holder.keeper, holder.keeper_started)


def _is_alive(process: int, started: str) -> bool:
    return _started(process) == started


def _started(process: int) -> str | None:
    """When a process started, in ticks since the machine did; None if it has ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # from the third on; a name may hold anything
    return None if fields[0] in "ZX" else fields[19]


def _place() -> str:
    """This boot of this machine, and the namespace in which its processes have their numbers."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(text))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
