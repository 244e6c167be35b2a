# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network lets an instance reach what the plan lists, and nothing else: tried, not read from configuration.

The outside of these tests is a network namespace on the uplink bridge that holds a documentation address.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import INSTANCES, Person, client, inside, reported

pytestmark = pytest.mark.containers

OUTSIDE = "198.51.100.7"
NAMESPACE = "bcm-outside"
PORT = 8080
_TRY = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 1.5).close()
    print("reached")
except OSError:
    print("refused")
"""

# Listens where nobody does yet, so that what is not reached was kept from it.
_LISTEN = """
import socket, subprocess, sys, time
sockets = []
for port in sys.argv[1:]:
    try:
        sockets.append(socket.create_server(("", int(port))))
    except OSError:
        pass
subprocess.run(["systemd-notify", "--ready"], check=True)
time.sleep(600)
"""


def reaches(instance: str, address: str, port: int, datacenter: str = "local") -> bool:
    return inside(datacenter, instance, "python3", "-c", _TRY, address, str(port)) == "reached"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def outside(started: dict[str, Any]) -> Iterator[str]:
    """A host with a web server behind the uplink, and routes there for whoever may leave."""
    with client("local") as lxd:
        uplink = lxd.get("/1.0/networks/local-r-up", project="default")["config"]["ipv4.address"]
    near = uplink.rsplit(".", 1)[0] + ".250"
    _ip("netns", "add", NAMESPACE)
    _ip("link", "add", "bcm-out0", "type", "veth", "peer", "name", "bcm-out1", "netns", NAMESPACE)
    _ip("link", "set", "bcm-out0", "master", "local-r-up", "up")
    for words in (("addr", "add", f"{near}/24", "dev", "bcm-out1"), ("addr", "add", f"{OUTSIDE}/32", "dev", "lo"),
                  ("link", "set", "bcm-out1", "up"), ("link", "set", "lo", "up"),
                  ("route", "add", "default", "via", uplink.split("/")[0])):  # fmt: skip
        _ip("-n", NAMESPACE, *words)
    _ip("route", "add", f"{OUTSIDE}/32", "via", near)
    server = subprocess.Popen(
        ["ip", "netns", "exec", NAMESPACE, "python3", "-u", "-m", "http.server", str(PORT)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    server.stdout.readline()
    yield OUTSIDE
    server.terminate()
    server.wait()
    _ip("route", "del", f"{OUTSIDE}/32")
    _ip("netns", "del", NAMESPACE)


def test_tor_has_the_uplink(outside: str) -> None:
    assert reaches("tor", outside, PORT), "without this, the tests that find no way out would prove nothing"


@pytest.mark.parametrize("instance", [name for name in INSTANCES if name != "tor"])
def test_no_other_way_out(outside: str, instance: str) -> None:
    assert not reaches(instance, outside, PORT)
    assert inside("local", instance, "sh", "-c", "getent hosts example.com || echo unknown") == "unknown"
    assert "default" not in inside("local", instance, "ip", "-6", "route", "show", "default")


@pytest.mark.parametrize("instance", INSTANCES)
def test_the_host_is_out_of_reach(started: dict[str, Any], instance: str) -> None:
    listening = subprocess.Popen(
        ["python3", "-u", "-m", "http.server", "18999"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert listening.stdout is not None
    listening.stdout.readline()
    with client("local") as lxd:
        gateway = lxd.get("/1.0/networks/local-r-net", project="default")["config"]["ipv4.address"].split("/")[0]
    try:
        assert not reaches(instance, gateway, 18999)
    finally:
        listening.terminate()
        listening.wait()


def _edges(person: Person) -> dict[tuple[str, str], set[int]]:
    """What the catalogue lists: consumer and provider, with the ports between them."""
    stacks = reported(person.succeeds("stack", "list", "--json"))
    return {
        (name, provider): {stacks[provider]["services"][service]["port"] for service in services}
        for name in INSTANCES
        for provider, services in stacks[name]["needs"].items()
    }


@pytest.fixture
def listening(person: Person, started: dict[str, Any]) -> Iterator[tuple[dict[tuple[str, str], set[int]], set[int]]]:
    """What the plan lists, and the ports on which every instance has somebody listening."""
    edges = _edges(person)
    ports = {22}.union(*edges.values())
    unit = ("systemd-run", "--quiet", "--unit=listen", "--property=Type=notify", "--property=NotifyAccess=all")
    for instance in INSTANCES:
        inside("local", instance, *unit, "python3", "-c", _LISTEN, *map(str, sorted(ports)))
    yield edges, ports
    for instance in INSTANCES:
        inside("local", instance, "systemctl", "stop", "listen")


def test_instances_reach_what_the_plan_lists_and_no_more(
    started: dict[str, Any], listening: tuple[dict[tuple[str, str], set[int]], set[int]]
) -> None:
    edges, ports = listening
    for consumer in INSTANCES:
        for provider in INSTANCES:
            if consumer == provider:
                continue
            for port in ports:
                expected = port in edges.get((consumer, provider), set())
                reached = reaches(consumer, started[provider]["address"], port)
                assert reached == expected, f"{consumer} to {provider} port {port}"


def test_data_centers_are_apart(person: Person, started: dict[str, Any]) -> None:
    """A second data center from cached images is up in half a minute and neither finds the other."""
    name = person.datacenter("second")
    second = reported(person.succeeds("-d", name, "stack", "start", "electrum", "--json"))
    try:
        for provider, ports in (("bitcoind", (18443, 18444)), ("electrs", (60402,)), ("tor", (9050,))):
            for port in ports:
                assert not reaches("electrum", second[provider]["address"], port)
                assert not reaches("electrum", started[provider]["address"], port, name)
        secrets = [(person.home / "inventories" / dc / "secrets/regtest.json").read_text() for dc in ("local", name)]
        assert not set(json.loads(secrets[0]).values()) & set(json.loads(secrets[1]).values())
    finally:
        person.succeeds("-d", name, "stack", "remove", "tor", "--delete-data")
