# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: copy channel backups, encrypted, to all targets whenever they change.

``backups_unit.py connect TARGET`` is what ssh runs to reach a target through Tor.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bcm_guest import channel_backups, copies
from bcm_guest.prove import Endpoint, Fault, Waiting

#: copies of a stack that the volume keeps
_KEPT = 10
_INTERVAL = 30.0  # seconds between two looks at a target that works
# Seconds between two attempts at one that does not: a part of how long it has failed, so that one that is back is
# noticed soon after a short time, and one that is away for days is left alone.
_SHORTEST, _LONGEST, _PART = 1.0, 60.0, 0.25


def moment() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class State:
    """What was copied, and where to: shared by all threads, and kept in a file that others read."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._lock = threading.Lock()
        try:
            found = json.loads(copies.STATE.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = {}
        former = found.get("targets", {})
        self.sources: dict[str, Any] = found.get("sources", {})
        self.targets: dict[str, Any] = {}
        for name, target in settings["targets"].items():
            digest = hashlib.sha256(json.dumps([target, settings["recipient"]], sort_keys=True).encode()).hexdigest()
            known = former.get(name, {})
            delivered = known["delivered"] if known.get("settings") == digest else {}
            self.targets[name] = {
                "type": target["type"], "settings": digest, "tried": False, "fault": None, "since": None,
                "reached": known.get("reached"), "delivered": delivered,
            }  # fmt: skip
        self._save()

    def _save(self) -> None:
        fresh = copies.STATE.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({"sources": self.sources, "targets": self.targets}, file)
        fresh.replace(copies.STATE)

    def source(self, stack: str, **facts: Any) -> None:
        with self._lock:
            known = self.sources.get(stack, {})
            self.sources[stack] = {**known, **facts}
            if self.sources[stack] != known:
                self._save()

    def reached(self, target: str) -> None:
        with self._lock:
            self.targets[target].update(tried=True, fault=None, since=None, reached=moment())
            self._save()

    def failed(self, target: str, fault: str) -> None:
        with self._lock:
            since = self.targets[target]["since"] or moment()
            self.targets[target].update(tried=True, fault=fault, since=since)
            self._save()

    def delivered(self, target: str, stack: str, name: str) -> None:
        with self._lock:
            self.targets[target]["delivered"][stack] = {"copy": name, "time": moment()}
            self._save()

    def missing(self, target: str) -> list[tuple[str, str]]:
        """The newest copies that a target does not have yet, with their stacks."""
        with self._lock:
            delivered = self.targets[target]["delivered"]
            return [
                (stack, source["copy"])
                for stack, source in self.sources.items()
                if source.get("copy") and delivered.get(stack, {}).get("copy") != source["copy"]
            ]


class Courier(threading.Thread):
    """Brings the newest copies to one target; a slow one holds up no other."""

    def __init__(self, name: str, settings: Mapping[str, Any], state: State) -> None:
        super().__init__(daemon=True)
        self.news = threading.Event()
        self._name = name
        self._state = state
        self._target = copies.target(name, settings["targets"][name], Endpoint.of(settings["socks"]))
        self._fails_since: float | None = None

    def run(self) -> None:
        while True:
            self.news.wait(self.attempt())
            self.news.clear()

    def attempt(self) -> float:
        """Bring what the target lacks. Returns the seconds until the next attempt, unless there is news before."""
        try:
            missing = self._state.missing(self._name)
            for stack, name in missing:
                self._target.put(copies.COPIES / name)
                self._state.delivered(self._name, stack, name)
            if not missing:
                self._target.check()
        except (Fault, OSError) as fault:
            self._target.close()
            self._state.failed(self._name, str(fault))
            now = time.monotonic()
            self._fails_since = self._fails_since or now
            return min(max(_PART * (now - self._fails_since), _SHORTEST), _LONGEST)
        self._state.reached(self._name)
        self._fails_since = None
        return _INTERVAL


class Source(threading.Thread):
    """Makes a copy of a node's channel backup whenever a channel is opened or closed."""

    def __init__(self, stack: str, settings: Mapping[str, Any], state: State, couriers: list[Courier]) -> None:
        super().__init__(daemon=True)
        source = settings["sources"][stack]
        self.news = threading.Event()
        self._stack = stack
        self._node = channel_backups.NODES[stack](Endpoint.of(source), source["credential"])
        self._settings = settings
        self._state = state
        self._couriers = couriers

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            self.news.wait(channel_backups.QUIET)
            self.news.clear()
            self.look()

    def look(self) -> None:
        """Make a copy if the channels have changed, and write down what is wrong; then it looks again soon."""
        try:
            self._copy()
            self._state.source(self._stack, fault=None, waits=None, checked=moment())
            return
        except Waiting as waiting:
            self._state.source(self._stack, fault=None, waits=str(waiting))
        except (Fault, OSError, subprocess.SubprocessError, LookupError, ValueError, TypeError) as fault:
            self._state.source(self._stack, fault=str(fault) or repr(fault), waits=None)
        finally:
            self._node.close()
        time.sleep(1)
        self.news.set()

    def _listen(self) -> None:
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException, LookupError, ValueError, Fault):
                self._node.listen(self.news.set)
            time.sleep(1)

    def _copy(self) -> None:
        """Make a copy, if the channels are not those of the last one."""
        backup = self._node.read()
        known = self._state.sources.get(self._stack, {})
        recipient = self._settings["recipient"]
        is_there = known.get("copy") and (copies.COPIES / known["copy"]).exists()
        if is_there and [known["node"], known["points"], known["recipient"]] == [backup.node, backup.points, recipient]:
            return
        found, nothing = self._node.channels(), {"peer": "", "public_key": "", "capacity": None, "local": None}
        content = {
            "datacenter": self._settings["datacenter"],
            "chain": self._settings["chain"],
            "stack": self._stack,
            "node": backup.node,
            "created": moment(),
            "channels": [{"point": point, **found.get(point, nothing)} for point in backup.points],
            "backup": backup.content,
            "sha256": hashlib.sha256(base64.b64decode(backup.content)).hexdigest(),
        }
        facts = {"created": content["created"], "node": backup.node, "points": backup.points, "recipient": recipient}
        self._state.source(self._stack, copy=seal(content, recipient), **facts)
        for courier in self._couriers:
            courier.news.set()


def seal(content: Mapping[str, Any], recipient: str) -> str:
    """Encrypt a copy to the data center, and return its name."""
    copies.COPIES.mkdir(mode=0o700, exist_ok=True)
    beginning = f"{content['datacenter']}-{content['chain']}-{content['stack']}-"
    there = sorted(path.name for path in copies.COPIES.glob(f"{beginning}*.age"))
    now = datetime.now(UTC)
    name = f"{beginning}{now:%Y%m%dT%H%M%S}.{now.microsecond:06}Z.age"
    if there and there[-1] >= name:  # the clock was set back
        name = f"{there[-1].removesuffix('.age')}+.age"
    path = copies.COPIES / name
    fresh = path.with_suffix(".new")
    subprocess.run(
        ["age", "--encrypt", "--recipient", recipient, "--output", str(fresh)],
        input=json.dumps(content).encode(), stderr=subprocess.PIPE, timeout=30, check=True,
    )  # fmt: skip
    with open(fresh, "rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)
    for former in there[: -_KEPT + 1]:
        (copies.COPIES / former).unlink()
    return name


def main() -> None:
    settings = json.loads(copies.SETTINGS.read_text(encoding="utf-8"))
    if sys.argv[1:2] == ["connect"]:
        target = settings["targets"][sys.argv[2]]
        try:
            connection = copies.connect(Endpoint.of(settings["socks"]), target["host"], target["port"], sys.argv[2])
        except Fault as fault:
            raise SystemExit(str(fault)) from fault
        with open(0, "rb", buffering=0) as source, open(1, "wb", buffering=0) as sink:
            copies.relay(connection, source, sink)
        return
    # of one that was killed
    for path in copies.COPIES.glob("*.new"):
        path.unlink()
    state = State(settings)
    couriers = [Courier(name, settings, state) for name in settings["targets"]]
    sources = [Source(name, settings, state, couriers) for name in settings["sources"]]
    threads: list[threading.Thread] = [*couriers, *sources]
    for thread in threads:
        thread.start()
    # A thread that ends is a fault of ours: systemd starts all again.
    while all(thread.is_alive() for thread in threads):
        time.sleep(5)
    raise SystemExit("a thread has ended")


if __name__ == "__main__":
    main()
