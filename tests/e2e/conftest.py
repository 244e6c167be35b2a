# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A person's own checkout and data centers, and what the tests of the whole ask of them."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests import browser, isolation, tornet
from tests.capture import Capture, capturing, destination
from tests.support import LXD_DIR, PATIENCE, RELAYS, ROOT, Tools, delete_unused_images, until

INSTANCES = ("tor", "bitcoind", "electrs", "electrum")


#: at how many points runs and nodes are killed
KILLS = int(os.environ.get("BCM_KILLS", "5"))
#: seconds after which a block was missed
_UNNOTICED = 30.0


@dataclass(frozen=True)
class Person:
    """Somebody with a fresh clone, who types commands in it."""

    home: Path
    environment: dict[str, str]

    def command(self, *words: str) -> list[str]:
        return [str(self.home / "bcm"), "--yes", *words]

    def types(self, *words: str, timeout: float = 1800, **more: str) -> subprocess.CompletedProcess[str]:
        """What a command of bcm answers."""
        return subprocess.run(
            self.command(*words), cwd=self.home, env={**self.environment, **more}, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def succeeds(self, *words: str, **more: Any) -> str:
        done = self.types(*words, **more)
        if done.returncode:
            said = f"{done.stdout}\n{done.stderr}"
            # once more, for a summary that shows the last lines
            faults = "\n".join(line for line in said.splitlines() if "Failed: " in line or '"message": ' in line)
            pytest.fail(f"bcm {' '.join(words)} ended with {done.returncode}\n{said}\n{faults}", pytrace=False)
        return done.stdout

    def settings(self, datacenter: str) -> Path:
        """The file with the settings of a data center."""
        return self.home / "inventories" / datacenter / "group_vars/all.yml"

    def datacenter(self, name: str, **settings: Any) -> str:
        """A data center of its own, made as the README says: a copy of the folder of another one."""
        folder = self.settings(name).parent.parent
        if not folder.exists():
            shutil.copytree(self.home / "inventories/local", folder, ignore=shutil.ignore_patterns("secrets"))
            # What upstream serves is asked for by the first command alone.
            text = re.sub(r"^(\w+_source): \[.*, (\w+)\]$", r"\1: \2", self.settings(name).read_text(), flags=re.M)
            self.settings(name).write_text(text)
        lines = {"datacenter": name, **settings}
        self.succeeds("-d", name, "config", "set", *(f"{key}={value}" for key, value in lines.items()))
        return name


@pytest.fixture(scope="module")
def driver() -> Iterator[str]:
    with browser.driver() as address:
        yield address


#: to whom those speak who ask for an address, and who ask for a router
_BROADCAST, _LINK_LOCAL = IPv4Address("255.255.255.255"), IPv6Network("ff02::/16")


@contextmanager
def quiet(datacenter: str) -> Iterator[Capture]:
    """Meanwhile nothing leaves a data center but what is for the relays of the tests, and nothing this machine."""
    names = datacenter_names(datacenter, "regtest")
    bridges = (names.network, names.uplink)
    with client(datacenter) as lxd:
        found = [lxd.get(f"/1.0/networks/{bridge}", project="default")["config"] for bridge in bridges]
    known = (IPv4Address(RELAYS), _BROADCAST)
    inside_of = [IPv4Network(config["ipv4.address"], strict=False) for config in found]

    def is_strange(packet: str) -> bool:
        to = destination(packet)
        if to is None:
            return packet != "arp"
        # A kernel asks its neighbours for routers (RFC 4861), which is forwarded nowhere.
        return to not in known and not any(to in network for network in (*inside_of, _LINK_LOCAL))

    with capturing(*bridges, ways_out=(isolation.UPLINK, isolation.NOWHERE)) as capture:
        yield capture
        strange = [packet for packet in capture.seen() if is_strange(packet)]
        assert not strange, ", ".join(strange)


@contextmanager
def opened(person: Person, datacenter: str, driver: str, stack: str, folder: Path) -> Iterator[browser.Browser]:
    """The browser of `bcm open`, without a window, while which nothing leaves the data center or this machine."""
    with quiet(datacenter), _opened(person, datacenter, driver, stack, folder) as page:
        yield page


@contextmanager
def _opened(person: Person, datacenter: str, driver: str, stack: str, folder: Path) -> Iterator[browser.Browser]:
    port = tornet.free_port()
    wrapper = folder / "chromium"
    words = " ".join(browser.HEADLESS)
    wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/chromium {words} --remote-debugging-port={port} "$@"\n')
    wrapper.chmod(0o755)
    environment = {**person.environment, "PATH": f"{folder}:{os.environ['PATH']}"}
    command = person.command("-d", datacenter, "open", stack)
    process = subprocess.Popen(command, env=environment, cwd=person.home, start_new_session=True)
    try:
        page = browser.attached(driver, port)
        yield page
        page.close()
        assert process.wait(PATIENCE) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the browser of a test that failed, too
        process.wait()


def client(datacenter: str, chain: str = "regtest") -> Client:
    return Client(str(LXD_DIR / "unix.socket"), project=f"bcm-{datacenter}-{chain}")


def inside(datacenter: str, instance: str, *argv: str, deadline: float = PATIENCE, chain: str = "regtest") -> str:
    """What a command in an instance prints; its failure fails the test."""
    with client(datacenter, chain) as lxd:
        done = lxd_exec.run(lxd, instance, lxd_exec.Command(argv), deadline=deadline)
    if done.returncode:
        pytest.fail(f"{argv} in {instance}: {done.stderr.decode()}", pytrace=False)
    return done.stdout.decode().strip()


def ours(datacenter: str) -> dict[str, list[str]]:
    """All that bears the marks of a data center, by kind."""
    found: dict[str, list[str]] = {}
    with client(datacenter) as lxd:
        projects = [item["name"] for item in lxd.get("/1.0/projects", project=None, recursion=1)]
        project = lxd.project if lxd.project in projects else None
        found["project"] = [project] if project else []
        for kind, path in (("instance", "/1.0/instances"), ("volume", "/1.0/storage-pools/default/volumes/custom")):
            found[kind] = [item["name"] for item in lxd.get(path, recursion=1)] if project else []
        for kind in ("network", "network-acl"):
            items = lxd.get(f"/1.0/{kind}s", project="default", recursion=1)
            found[kind] = [item["name"] for item in items if item["config"].get("user.bcm.datacenter") == datacenter]
    return found


@pytest.fixture(scope="module", autouse=True)
def images_that_nobody_uses(lxd_tools: Tools) -> Iterator[None]:
    """Delete them afterwards, since a small disk has no room for those of all stacks."""
    yield
    delete_unused_images()


@pytest.fixture(scope="session")
def person(lxd_tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Person:
    """A copy of what is in version control and of what is about to be, as it is: nobody has edited a file."""
    home = tmp_path_factory.mktemp("clone") / "bcm"
    listed = lxd_tools.run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    kept = ("PATH", "HOME", "LANG", "LXD_DIR", "XDG_CACHE_HOME", "DISPLAY")
    proxies = tuple(name for name in os.environ if name.startswith(("PIP_", "SSL_", "REQUESTS_")))
    return Person(home, {name: os.environ[name] for name in (*kept, *proxies) if name in os.environ})


def reported(output: str) -> dict[str, Any]:
    """What a run says of each stack, by name."""
    return {item["stack"]: item for item in json.loads(output)["stacks"]}


@pytest.fixture(scope="session")
def started(person: Person) -> Iterator[dict[str, Any]]:
    """The README's first command, in a fresh clone; what it says of each stack. Taken away at the end."""
    yield reported(person.succeeds("stack", "start", "electrum", "--json"))
    person.succeeds("stack", "remove", "tor", "--delete-data")
    assert not any(ours("local").values()), "removing everything left something behind"


def follow(mine: Callable[[], object], condition: Callable[[], bool], what: str) -> None:
    """Await what nodes do after a block. One that comes while bitcoind or lnd starts, they notice with the next."""
    mined = -math.inf

    def is_met() -> bool:
        nonlocal mined
        if time.monotonic() - mined > _UNNOTICED:
            mine()
            mined = time.monotonic()
        return condition()

    until(is_met, what)


def kill_when(person: Person, datacenter: str, instance: str, condition: str, *words: str) -> None:
    """Kill all processes of a command at a condition in an instance, which a command that is done meets as well."""
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    command = person.command("-d", datacenter, *words)
    running = subprocess.Popen(command, cwd=person.home, env=person.environment, start_new_session=True, **quiet)

    def is_met() -> bool:
        with client(datacenter) as lxd:
            instances = {item["name"]: item["status"] for item in lxd.get("/1.0/instances", recursion=1)}
        check = f"{condition} && echo yes || true"
        return instances.get(instance) == "Running" and inside(datacenter, instance, "sh", "-c", check).endswith("yes")

    until(lambda: running.poll() is not None or is_met(), condition)
    was_running = running.poll() is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    print(f"{' '.join(words)} {'killed' if was_running else 'was done'} at: {condition}")


@dataclass(frozen=True)
class Pair:
    """Two data centers that know each other by onion addresses alone, and what has left them since they began."""

    relays: tornet.TorNetwork
    capture: Capture
    stacks: dict[str, dict[str, Any]]  # data center -> stack -> what is reported of it
    onions: dict[str, dict[str, str]]  # data center -> stack -> address:port
    up: float

    def listening(self) -> set[str]:
        """Where the relays are, as `Capture` writes it."""
        lines = [line for line in self.relays.lines if line.startswith("DirAuthority ")]
        ports = [port for line in lines for port in re.findall(rf"orport=(\d+)|{re.escape(RELAYS)}:(\d+)", line)]
        return {f"{RELAYS}:{orport or dirport}" for orport, dirport in ports}

    def strange(self) -> dict[str, int]:
        """What left for anything but a relay; how often."""
        to_relays = {f"tcp {address}" for address in self.listening()}
        return {
            packet: count
            for packet, count in self.capture.seen().items()
            if packet != "arp" and " ".join(packet.split()[::2]) not in to_relays
        }


FIRST, SECOND = "first", "other"


@pytest.fixture(scope="session")
def pair(person: Person, started: dict[str, Any], relays: tornet.TorNetwork) -> Iterator[Pair]:
    names = {FIRST: "electrs", SECOND: "bitcoind"}
    with capturing(*(f"{name}-r-up" for name in names)) as capture:
        found = {}
        try:
            for name, stack in names.items():
                person.datacenter(name)
                with person.settings(name).open("a") as settings:
                    settings.write(f"tor_network: true\ntor_lines: {json.dumps(relays.lines)}\n")
                    settings.write("bitcoind_onlynet: [onion]\n")
                found[name] = reported(person.succeeds("-d", name, "stack", "start", stack, "--json"))
            onions = {
                name: {stack: item["onions"][0]["address"] for stack, item in stacks.items() if item["onions"]}
                for name, stacks in found.items()
            }
            yield Pair(relays, capture, found, onions, time.monotonic())
        finally:
            for name in names:
                person.succeeds("-d", name, "stack", "remove", "tor", "--delete-data")
