# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every benchmark shares: interleaved repetitions, medians, runs of playbooks, and the lines of the table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import parse

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
NETWORK = "bcmbench"
Variant = Callable[[], float]


class BenchError(Exception):
    """A benchmark could not be run; the message is for people."""


@dataclass(frozen=True)
class Line:
    """One line of the table. Times in seconds; ``at_most`` is a ratio, or seconds where nothing is compared."""

    work: str
    ours: float
    against: str = ""
    theirs: float | None = None
    at_most: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.theirs is None else self.ours / self.theirs

    @property
    def met(self) -> bool:
        value = self.ours if self.ratio is None else self.ratio
        return self.at_most is None or value <= self.at_most


@dataclass(frozen=True)
class Step:
    """One task of one host."""

    host: str
    task: str
    seconds: float


@dataclass(frozen=True)
class Run:
    """A playbook that ran: seconds in all, of each task and play (first host to last), and what changed something."""

    seconds: float
    tasks: Mapping[str, float]
    plays: Mapping[str, float]
    steps: Sequence[Step]
    changed: Sequence[str]

    def unchanged(self) -> Run:
        """Itself; BenchError if it changed something, for then it is no measure of doing nothing."""
        if self.changed:
            raise BenchError(f"What was in its wanted state was changed by {'; '.join(self.changed)}")
        return self


@dataclass
class Bench:
    """Where the benchmarks run: a LXD, a folder to write to. ``warm``: images come from the person's disk cache."""

    client: Client
    folder: Path
    peers: Path
    repetitions: int
    warm: bool

    @cached_property
    def image(self) -> str:
        """Fingerprint of an image with systemd and Python in it: the base, or a stack's."""
        found = self._images()
        if not found:
            self.playbook("playbooks/base.yml")
            found = self._images()
        return found.get("base") or next(iter(found.values()))

    def _images(self) -> dict[str, str]:
        images = self.client.get("/1.0/images", recursion=1)
        return {i["properties"]["bcm.stack"]: i["fingerprint"] for i in images if "bcm.stack" in i["properties"]}

    def client_of(self, project: str) -> Client:
        return Client(self.socket, project=project)

    @property
    def socket(self) -> str:
        path = self.client.endpoint.socket_path
        assert path is not None
        return path

    def instances(self, prefix: str, count: int, **options: Any) -> list[dict[str, Any]]:
        """Instances as lxd_apply takes them. They run, but do not boot: LXD is measured, not systemd."""
        devices = {
            "root": {"type": "disk", "pool": "default", "path": "/"},
            "eth0": {"type": "nic", "network": NETWORK},
        }
        config = {"limits.memory": "1GiB", "raw.lxc": "lxc.init.cmd = /bin/sleep infinity"}
        common = {"kind": "instance", "image": self.image, "state": "started", "profiles": [], "devices": devices}
        return [{**common, "name": f"{prefix}{number}", "config": config, **options} for number in range(count)]

    @contextmanager
    def running(self, prefix: str, count: int) -> Iterator[list[dict[str, Any]]]:
        """Instances that run, gone afterwards."""
        instances = self.instances(prefix, count)
        try:
            self.apply(instances)
            yield instances
        finally:
            self.remove(prefix, count)

    def remove(self, prefix: str, count: int) -> None:
        self.apply(self.instances(prefix, count, state="absent", force_stop=True))

    def apply(self, resources: list[dict[str, Any]]) -> None:
        reconcile(self.client, [parse(resource) for resource in resources])

    def playbook(
        self,
        playbook: str | Path,
        variables: Mapping[str, Any] | None = None,
        *,
        inventory: str | Path = "localhost,",
        config: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Run:
        """Run a playbook, ours or one of benchmarks/; all other settings are the same for every run."""
        times, extra = self.folder / "times.json", self.folder / "variables.json"
        extra.write_text(json.dumps({"bench_socket": self.socket, **(variables or {})}), encoding="utf-8")
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "-e", f"@{extra}"]
        begun = time.perf_counter()
        done = subprocess.run(
            [*command, str(HERE / playbook)],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(config or HERE / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": f"{ROOT / 'collections'}:{self.peers}",
                "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback"),
                "ANSIBLE_CALLBACKS_ENABLED": "bench_times",
                "ANSIBLE_PIPELINING": "true",
                "ANSIBLE_NOCOLOR": "1",
                "BCM_ENDPOINT": self.socket,
                "BENCH_TIMES": str(times),
                # as for a person, whose Python keeps what it has compiled
                "PYTHONDONTWRITEBYTECODE": "",
                **({} if self.warm else {"XDG_CACHE_HOME": str(self.folder / "cache")}),
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - begun
        if done.returncode:
            raise BenchError(f"{done.stdout[-4000:]}\n{playbook} ended with {done.returncode}")
        tasks = json.loads(times.read_text(encoding="utf-8"))
        steps = [Step(task["host"], task["task"], task["end"] - task["begin"]) for task in tasks]
        changed = [f"{task['host']}: {task['task']}" for task in tasks if task["changed"]]
        return Run(seconds, _spans(tasks, "task"), _spans(tasks, "play"), steps, changed)


@contextmanager
def network(client: Client) -> Iterator[None]:
    """A bridge for the instances of a benchmark."""
    bridge = {"kind": "network", "name": NETWORK}
    config = {"ipv4.address": "198.51.100.1/24", "ipv4.nat": False, "ipv6.address": "none"}
    reconcile(client, [parse({**bridge, "config": config})])
    try:
        yield
    finally:
        reconcile(client, [parse({**bridge, "state": "absent"})])


def _spans(tasks: list[dict[str, Any]], key: str) -> dict[str, float]:
    begin: dict[str, float] = {}
    end: dict[str, float] = {}
    for task in tasks:
        name = task[key]
        begin[name] = min(begin.get(name, task["begin"]), task["begin"])
        end[name] = max(end.get(name, task["end"]), task["end"])
    return {name: end[name] - begin[name] for name in begin}


def interleaved(variants: Mapping[str, Variant], repetitions: int) -> dict[str, float]:
    """The median of each variant. They take turns, every second round backwards, so that drift hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for round_ in range(repetitions):
        for name in list(variants)[:: -1 if round_ % 2 else 1]:
            times[name].append(variants[name]())
    return {name: statistics.median(values) for name, values in times.items()}


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
