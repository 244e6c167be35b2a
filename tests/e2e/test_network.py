# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network lets an instance reach what the plan lists, and nothing else: tried, not read from configuration.

The outside of these tests is a network namespace behind the host that holds documentation addresses, and a private
one, as of a home network.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import FIRST, INSTANCES, Pair, Person, client, inside, reported
from tests.support import LXD_DIR, until

pytestmark = [pytest.mark.containers, pytest.mark.whole]

OUTSIDE, OTHER, HOME, OUTSIDE6 = "198.51.100.7", "203.0.113.9", "10.199.99.1", "2001:db8::7"
NAMESPACE = "bcm-outside"
UPLINK = "local-r-up"
PORT, EXCEPTED = 8080, 8333
#: address, port, protocol
Target = tuple[str, int, str]

#: what tor may reach of the outside
TORS = {(address, port, "tcp") for address in (OUTSIDE, OTHER) for port in (PORT, EXCEPTED)}
PROGRAMS = Path(__file__).with_name("programs")


def program(name: str) -> str:
    """The text of a program that runs elsewhere."""
    return (PROGRAMS / f"{name}.py").read_text()


def reached(
    instance: str, targets: Sequence[Target], user: str | None = None, datacenter: str = "local"
) -> set[Target]:
    """Those of the targets that somebody in an instance can talk to."""
    users = [user] if user else []
    found = inside(datacenter, instance, "python3", "-c", program("reach"), json.dumps(targets), *users)
    return {(address, port, protocol) for address, port, protocol in json.loads(found)}


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _gateway(network: str) -> str:
    with client("local") as lxd:
        return str(lxd.get(f"/1.0/networks/{network}", project="default")["config"]["ipv4.address"]).split("/")[0]


def _becomes(expected: bool, found: Callable[[], bool]) -> None:
    until(lambda: found() is expected, f"it becomes {expected}")


@pytest.fixture(scope="module")
def outside(started: dict[str, Any]) -> Iterator[list[Target]]:
    """A host beyond this one, with routes there for whoever may leave; where it answers."""
    near, far = "192.0.2.129", "192.0.2.130"
    _ip("netns", "add", NAMESPACE)
    _ip("link", "add", "bcm-out0", "type", "veth", "peer", "name", "bcm-out1", "netns", NAMESPACE)
    _ip("addr", "add", f"{near}/30", "dev", "bcm-out0")
    _ip("link", "set", "bcm-out0", "up")
    for words in (("addr", "add", f"{far}/30", "dev", "bcm-out1"), ("link", "set", "bcm-out1", "up"),
                  *(("addr", "add", f"{address}/32", "dev", "lo") for address in (OUTSIDE, OTHER, HOME)),
                  ("link", "set", "lo", "up"), ("route", "add", "default", "via", near)):  # fmt: skip
        _ip("-n", NAMESPACE, *words)
    for address in (OUTSIDE, OTHER, HOME):
        _ip("route", "add", f"{address}/32", "via", far)
    server = subprocess.Popen(
        ["ip", "netns", "exec", NAMESPACE, sys.executable, PROGRAMS / "world.py", OUTSIDE, str(PORT), str(EXCEPTED),
         "53"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    server.stdout.readline()
    yield [(a, p, "tcp") for a in (OUTSIDE, OTHER, HOME) for p in (PORT, EXCEPTED, 53)] + [(OUTSIDE, 53, "udp")]
    server.terminate()
    server.wait()
    # its end of the pair takes the other one along, with the routes
    _ip("netns", "del", NAMESPACE)


@pytest.fixture(scope="module")
def host(started: dict[str, Any]) -> Iterator[list[Target]]:
    """The host's own addresses, with somebody listening; and the DNS server that it might have there."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "18999"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    server.stdout.readline()
    uplink = _gateway(UPLINK)
    yield [(_gateway("local-r-net"), 18999, "tcp"), *((uplink, 53, protocol) for protocol in ("tcp", "udp")),
           (uplink, 18999, "tcp")]  # fmt: skip
    server.terminate()
    server.wait()


def test_only_tors_packets_leave(outside: list[Target], host: list[Target]) -> None:
    attempt = [sys.executable, PROGRAMS / "reach.py", json.dumps(outside + host)]
    control = subprocess.run(attempt, capture_output=True, check=True)
    there = {tuple(target) for target in json.loads(control.stdout)}
    assert there == {target for target in outside + host if target[:2] != (_gateway(UPLINK), 53)}
    # no resolver and no home network for tor either
    assert reached("tor", outside + host, "debian-tor") == TORS
    assert reached("tor", outside + host) == reached("tor", outside + host, "nobody") == set()


@pytest.mark.parametrize("instance", [name for name in INSTANCES if name != "tor"])
def test_instances_cannot_reach_the_outside(outside: list[Target], host: list[Target], instance: str) -> None:
    assert reached(instance, outside + host) == set()
    assert inside("local", instance, "sh", "-c", "getent hosts example.com || echo unknown") == "unknown"
    assert inside("local", instance, "ip", "-6", "route", "show", "default") == ""


def _is_found(address: str, *find: str) -> bool:
    found = inside("local", "tor", "sh", "-c", f"{shlex.join(find)} || echo unknown")
    return found.split()[0] == address


def test_addresses_and_names_are_those_of_the_plan(started: dict[str, Any]) -> None:
    """Root in an instance gives one address back, and asks for all, by all names: the others keep theirs."""
    domain = "local-regtest.bcm"

    def leases() -> set[tuple[str, str]]:
        lines = (LXD_DIR / "networks/local-r-net/dnsmasq.leases").read_text().splitlines()
        return {(name, address) for _end, _hardware, address, name, _client in map(str.split, lines)}

    before = leases()
    assert before == {(name, started[name]["address"]) for name in INSTANCES}
    with client("local") as lxd:
        hardware = lxd.get("/1.0/instances/electrs")["config"]["volatile.eth0.hwaddr"]
    given_back = (hardware, started["electrs"]["address"], _gateway("local-r-net"))

    def holds() -> bool:
        inside("local", "electrum", "python3", "-c", program("ask_addresses"), "bitcoind", *given_back)
        return leases() == before

    # the neighbour may have asked for it again, or the packet may be lost
    _becomes(False, holds)
    inside("local", "electrs", "networkctl", "renew", "eth0")
    # a renewal takes its time
    for name in INSTANCES:
        find = ("getent", "hosts", f"{name}.{domain}")
        _becomes(True, functools.partial(_is_found, started[name]["address"], *find))
    rogues = "getent hosts rogue1." + domain + " rogue599." + domain + " || echo unknown"
    assert inside("local", "tor", "sh", "-c", rogues) == "unknown"
    # the file is written in place
    _becomes(True, lambda: leases() == before)


def test_flushed_rules_block_all_packets(person: Person, outside: list[Target]) -> None:
    # a way for all is none, as long as nftables knows whose packets they are
    way = ("default", "via", _gateway(UPLINK), "dev", "eth1", "onlink")
    inside("local", "tor", "ip", "route", "add", *way)
    assert reached("tor", outside) == set()
    inside("local", "tor", "ip", "route", "del", *way)
    # and without nftables nobody else has a way
    inside("local", "tor", "nft", "flush", "ruleset")
    assert reached("tor", outside) == reached("tor", outside, "nobody") == set()
    assert reached("tor", outside, "debian-tor") == TORS
    inside("local", "tor", "ip", "rule", "del", "table", "100")
    assert reached("tor", outside, "debian-tor") == set()
    said = json.loads(person.succeeds("stack", "start", "tor", "--json"))
    assert said["warnings"] == [
        f"tor: {what} of eth1 were not those of the plan, and were put back" for what in ("rules", "routes")
    ]
    assert reached("tor", outside, "debian-tor") == TORS
    assert reached("tor", outside) == set()


def _nft(*words: str, stdin: str | None = None) -> str:
    return subprocess.run(["nft", *words], input=stdin, capture_output=True, text=True, check=True).stdout


def _chains() -> set[tuple[str, str, str]]:
    """Of what LXD has made on the host, what is the data center's: families, tables and names."""
    found = [item["chain"] for item in json.loads(_nft("-j", "list", "chains"))["nftables"] if "chain" in item]
    ours = (".local-r-net", f".{UPLINK}", ".bcm-local-regtest_tor.eth1")
    return {(item["family"], item["table"], item["name"]) for item in found if item["name"].endswith(ours)}


def test_rules_lost_by_the_host_are_restored(person: Person, outside: list[Target], host: list[Target]) -> None:
    """As by `nft flush ruleset` of another program there; a contributor's own rules are left alone."""
    chains = _chains()
    assert {name.split(".")[0] for _family, _table, name in chains} >= {"acl", "aclfwd", "aclin", "fwd", "pstrt"}
    assert {family for family, _table, _name in chains} == {"inet", "bridge"}
    lose = [f"{verb} chain {' '.join(chain)}" for verb in ("flush", "delete") for chain in chains]
    settings = person.home / "inventories/local/group_vars/all.yml"
    before = settings.read_text()
    try:
        _nft("-f", "-", stdin="\n".join(lose))
        assert _chains() == set()
        # what is not held any more, and what is all the same
        assert reached("bitcoind", host) == {host[0]}
        for instance in INSTANCES:
            assert reached(instance, outside) == reached(instance, outside, "nobody") == set(), instance
        # LXD cannot change rules that are not there
        exception = {"stack": "bitcoind", "to": f"{OUTSIDE}/32", "protocol": "tcp", "port": EXCEPTED, "why": "a friend"}
        settings.write_text(f"{before}bcm_exceptions: {json.dumps([exception])}\n")
        said = json.loads(person.succeeds("stack", "start", "bitcoind", "--json"))
    finally:
        settings.write_text(before)
    assert said["warnings"][-1] == (
        f"The host lost the rules that LXD made for {UPLINK}, local-r-net, which a run puts back: "
        "see which program flushes its firewall"
    )
    assert _chains() == chains
    said = json.loads(person.succeeds("stack", "start", "bitcoind", "--json"))
    assert said["warnings"] == []
    assert reached("bitcoind", host) == set()
    assert reached("tor", outside, "debian-tor") == TORS


def test_ipv6_does_not_leave_the_instance(outside: list[Target]) -> None:
    """Even if somebody in it is root, and makes himself an address and a way past nftables."""
    target = [(OUTSIDE6, PORT, "tcp")]
    _ip("link", "add", "bcm-six0", "type", "veth", "peer", "name", "bcm-six1", "netns", NAMESPACE)
    _ip("link", "set", "bcm-six0", "master", UPLINK, "up")
    _ip("-n", NAMESPACE, "addr", "add", f"{OUTSIDE6}/64", "dev", "bcm-six1", "nodad")
    _ip("-n", NAMESPACE, "link", "set", "bcm-six1", "up")
    inside("local", "tor", "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth1/disable_ipv6;"
           "ip -6 addr add 2001:db8::8/64 dev eth1 nodad; nft flush ruleset")  # fmt: skip
    try:
        assert reached("tor", target) == set()
        with _without_guards():
            _becomes(True, lambda: reached("tor", target) == set(target))
    finally:
        inside("local", "tor", "ip", "-6", "addr", "del", "2001:db8::8/64", "dev", "eth1")
        inside("local", "tor", "systemctl", "reload", "egress")
        _ip("link", "del", "bcm-six0")


@contextmanager
def _without_guards() -> Iterator[None]:
    """tor's second interface, for a moment without its filter and its network's ACL."""
    instance, network = "/1.0/instances/tor", f"/1.0/networks/{UPLINK}"
    with client("local") as lxd:
        devices = lxd.get(instance)["devices"]

        def put(filtered: str, acl: str) -> None:
            held = {**devices, "eth1": {**devices["eth1"], "security.ipv6_filtering": filtered}}
            lxd.call("PATCH", instance, {"devices": held}, what="change a device")
            config = {"security.acls": acl}
            lxd.call("PATCH", network, {"config": config}, what="change the uplink", project="default")

        put("false", "")
        try:
            yield
        finally:
            put("true", UPLINK)


def test_without_its_rules_tor_does_not_run(person: Person, started: dict[str, Any]) -> None:
    inside("local", "tor", "sh", "-c", "echo 'table inet bcm {' > /etc/bcm/egress.nft; ! systemctl restart egress")
    _becomes(True, lambda: inside("local", "tor", "sh", "-c", "systemctl is-active tor || :") != "active")
    inside("local", "tor", "sh", "-c", "! systemctl start tor")
    person.succeeds("stack", "start", "tor")
    assert inside("local", "tor", "systemctl", "is-active", "egress", "tor") == "active\nactive"


def test_tor_reaches_the_outside_after_its_uplink_returns(outside: list[Target]) -> None:
    target = (OUTSIDE, PORT, "tcp")
    with client("local") as lxd:
        interface = lxd.get("/1.0/instances/tor")["config"]["volatile.eth1.host_name"]
    _ip("link", "set", interface, "down")
    assert reached("tor", [target], "debian-tor") == set()
    _ip("link", "set", interface, "up")
    _becomes(True, lambda: reached("tor", [target], "debian-tor") == {target})
    assert reached("tor", [target], "nobody") == set()


@contextmanager
def _talking(instance: str, *targets: Target) -> Iterator[Callable[[], bool]]:
    """Whether somebody in an instance still talks to one of the targets, over connections that he made before."""
    unit = ("systemd-run", "--quiet", "--unit=talk", "--property=Type=notify", "--property=NotifyAccess=all")
    places = [f"{address}:{port}" for address, port, _tcp in targets]
    inside("local", instance, *unit, "python3", "-c", program("talk"), *places)
    yield lambda: inside("local", instance, "sh", "-c", "systemctl is-active talk || :") == "active"
    inside("local", instance, "sh", "-c", "systemctl stop talk || :")


def test_exception_applies_while_the_inventory_lists_it(person: Person, outside: list[Target]) -> None:
    exception = {"stack": "bitcoind", "to": f"{OUTSIDE}/32", "protocol": "tcp", "port": EXCEPTED, "why": "a friend"}
    other = {**exception, "port": PORT, "why": "another friend"}
    target = (OUTSIDE, EXCEPTED, "tcp")
    settings = person.home / "inventories/local/group_vars/all.yml"
    before = settings.read_text()
    try:
        settings.write_text(f"{before}bcm_exceptions: {json.dumps([exception, other])}\n")
        said = json.loads(person.succeeds("stack", "start", "bitcoind", "--json"))
        assert said["exceptions"] == [exception, other]
        assert said["warnings"] == [
            f"bitcoind reaches {OUTSIDE}/32 tcp {item['port']} without Tor: {item['why']} (bcm_exceptions)"
            for item in (exception, other)
        ]
        assert json.loads(person.succeeds("stack", "status", "--json"))["exceptions"] == [exception, other]
        assert reached("bitcoind", outside) == {target, (OUTSIDE, PORT, "tcp")}
        assert reached("electrs", outside) == set()
        with _talking("bitcoind", (OUTSIDE, PORT, "tcp")) as talks:
            assert talks()
            settings.write_text(f"{before}bcm_exceptions: {json.dumps([exception])}\n")
            said = json.loads(person.succeeds("stack", "start", "bitcoind", "--json"))
            # at once, and not when it is done
            assert not talks()
        assert re.fullmatch(
            rf"bitcoind: tcp [\d.:]+ to {OUTSIDE}:{PORT} was not allowed by any rule, and was ended",
            said["warnings"][-1],
        )
        assert reached("bitcoind", outside) == {target}
    finally:
        settings.write_text(before)
    said = json.loads(person.succeeds("stack", "start", "bitcoind", "--json"))
    assert said["exceptions"] == said["warnings"] == []
    assert json.loads(person.succeeds("stack", "status", "--json"))["exceptions"] == []
    assert reached("bitcoind", outside) == set()
    assert not Path("/sys/class/net/local-r-bld").exists(), "nothing is baked"


def test_connection_ends_with_the_foreign_rule_that_allowed_it(person: Person, started: dict[str, Any]) -> None:
    own, provider = (started[name]["address"] for name in ("electrum", "bitcoind"))
    rule = {"action": "allow", "state": "enabled", "source": f"{own}/32", "destination": f"{provider}/32",
            "protocol": "tcp", "destination_port": "22"}  # fmt: skip
    path = "/1.0/network-acls/local-r-net"
    unit = ("systemd-run", "--quiet", "--unit=listen", "--property=Type=notify", "--property=NotifyAccess=all")
    inside("local", "bitcoind", *unit, "python3", "-c", program("listen"), "22")
    with client("local") as lxd:
        acl = lxd.get(path, project="default")
        lxd.call("PUT", path, {**acl, "egress": [*acl["egress"], rule]}, what="add a rule", project="default")
    with _talking("electrum", (provider, 22, "tcp")) as talks:
        assert talks()
        problems = json.loads(person.types("privacy", "--json").stdout)["problems"]
        assert [item for item in problems if re.match(rf"electrum is connected to {provider} tcp 22, ", item)]
        said = json.loads(person.succeeds("stack", "start", "electrum", "--json"))
        assert not talks()
    inside("local", "bitcoind", "systemctl", "stop", "listen")
    assert any(own in warning and "was ended" in warning for warning in said["warnings"])
    assert json.loads(person.succeeds("stack", "start", "electrum", "--json"))["warnings"] == []


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
        inside("local", instance, *unit, "python3", "-c", program("listen"), *map(str, sorted(ports)))
    yield edges, ports
    for instance in INSTANCES:
        inside("local", instance, "systemctl", "stop", "listen")


def test_instances_reach_what_the_plan_lists_and_no_more(
    started: dict[str, Any], listening: tuple[dict[tuple[str, str], set[int]], set[int]]
) -> None:
    edges, ports = listening
    for consumer in INSTANCES:
        others = {name: started[name]["address"] for name in INSTANCES if name != consumer}
        targets = [(address, port, "tcp") for address in others.values() for port in ports]
        listed = {(others[name], port, "tcp") for name in others for port in edges.get((consumer, name), ())}
        assert reached(consumer, targets) == listed, consumer


def test_data_centers_do_not_reach_each_other(person: Person, started: dict[str, Any], pair: Pair) -> None:
    second = pair.stacks[FIRST]
    listening = (("bitcoind", (18443, 18444)), ("electrs", (60402,)), ("tor", (9050,)))
    for here, there in (("local", second), (FIRST, started)):
        targets = [(there[stack]["address"], port, "tcp") for stack, ports in listening for port in ports]
        assert reached("electrs", targets, datacenter=here) == set()
        assert reached("tor", targets, "debian-tor", datacenter=here) == set()
    secrets = [(person.home / "inventories" / dc / "secrets/regtest.json").read_text() for dc in ("local", FIRST)]
    assert not set(json.loads(secrets[0]).values()) & set(json.loads(secrets[1]).values())
