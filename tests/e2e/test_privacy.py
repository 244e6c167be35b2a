# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm privacy` finds nothing wrong with a fresh data center, and what is made wrong. `bcm onion` in a real one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._tor.services_file import ServicesFile
from tests.e2e.conftest import INSTANCES, Person, client, inside

pytestmark = [pytest.mark.containers, pytest.mark.whole]

NETWORK = datacenter_names("local", "regtest").network

FOREIGN = "unit foreign.service has /run/systemd/transient/foreign.service, which neither a package nor a run installed"
ENABLED = (
    "unit debug-shell.service is enabled by /etc/systemd/system/sysinit.target.wants/debug-shell.service, "
    "which is of no image, package or run"
)
EDITED = "/etc/systemd/network/10-eth.network"
_LISTEN = """
import socket, subprocess, time
listening = socket.create_server(("", 4444))
subprocess.run(["systemd-notify", "--ready"], check=True)
time.sleep(600)
"""


def proved(person: Person) -> dict[str, Any]:
    """What `bcm privacy` says of a data center with which nothing is wrong."""
    found: dict[str, Any] = json.loads(person.succeeds("privacy", "--json"))
    return found


@contextmanager
def changed(path: str, **change: Any) -> Iterator[None]:
    """Something of LXD's is different for a moment."""
    with client("local") as lxd:
        before = lxd.get(path, project="default")
        try:
            lxd.call("PUT", path, {**before, **change}, what=f"change {path}", project="default")
            yield
        finally:
            lxd.call("PUT", path, before, what=f"put back {path}", project="default")


def test_privacy_of_a_deployed_data_center_has_no_problems(person: Person, started: dict[str, Any]) -> None:
    found = proved(person)
    assert found["problems"] == []
    rows = {row["instance"]: row for row in found["instances"]}
    assert set(rows) == set(INSTANCES)
    assert rows["electrs"]["reaches"] == ["bitcoind 18443", "bitcoind 18444"]
    assert rows["electrum"]["reaches"] == ["electrs 60402"]
    assert rows["electrs"]["as"] == ["root", "electrs", "tls"]
    for row in rows.values():
        kinds = {kind: counts["attempts"] for kind, counts in row["blocked"].items()}
        assert min(kinds[kind] for kind in ("others", "host", "dns", "ipv6", "outside")) > 0
    assert found["tor"]["network"] is False
    # it sends nothing outside itself
    assert proved(person)["rules"]["tor"]["sent"] == found["rules"]["tor"]["sent"]


def test_weakened_rules_are_named(person: Person, started: dict[str, Any]) -> None:
    rule = {
        "action": "allow",
        "state": "enabled",
        "source": f"{started['electrum']['address']}/32",
        "destination": f"{started['bitcoind']['address']}/32",
        "protocol": "tcp",
        "destination_port": "22,18443",
    }
    with client("local") as lxd:
        acl = lxd.get(f"/1.0/network-acls/{NETWORK}", project="default")
        network = lxd.get(f"/1.0/networks/{NETWORK}", project="default")
    # names of the outside are known now
    resolver = f"{network['config']['raw.dnsmasq']}\naddress=/example/192.0.2.1"
    inside("local", "tor", "nft", "delete", "table", "inet", "bcm")
    inside("local", "electrs", "systemctl", "stop", "tls")
    inside("local", "bitcoind", "systemctl", "--quiet", "enable", "debug-shell")
    inside("local", "bitcoind", "sh", "-c", f"cp -p {EDITED} /root/kept && echo >> {EDITED}")
    inside("local", "bitcoind", "systemd-run", "--quiet", "--unit=foreign", "--service-type=notify",
           "--property=NotifyAccess=all", "python3", "-c", _LISTEN)  # fmt: skip
    try:
        with (
            changed(f"/1.0/network-acls/{NETWORK}", egress=[*acl["egress"], rule]),
            changed(f"/1.0/networks/{NETWORK}", config={**network["config"], "raw.dnsmasq": resolver}),
        ):
            done = person.types("privacy")
            shown = person.types("stack", "status").stdout
    finally:
        inside("local", "bitcoind", "systemctl", "stop", "foreign")
        inside("local", "bitcoind", "systemctl", "--quiet", "disable", "debug-shell")
        inside("local", "bitcoind", "mv", "/root/kept", EDITED)
        inside("local", "tor", "systemctl", "reload", "egress")
        inside("local", "electrs", "systemctl", "start", "tls")
    asked = f"can resolve outside names at the resolver of {NETWORK} udp 53"
    problems = {line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("NOT IN ORDER: ")}
    expected = {
        "electrum (as root and electrum) reaches bitcoind tcp 18443, which the plan does not list",
        # nobody listens there, but it is reached
        "electrum (as root and electrum) reaches bitcoind tcp 22, which the plan does not list",
        "electrum (as root and electrum) reaches electrs, but nothing answers at tcp 60402",
        # where connections to its onion address come in
        "tor (as root and debian-tor) reaches electrs, but nothing answers at tcp 50001",
        f"bitcoind (as root and bitcoind) {asked}",
        f"electrs (as root and electrs and tls) {asked}",
        f"electrum (as root and electrum) {asked}",
        f"tor (as root and debian-tor) {asked}",
        "tor has not loaded its egress firewall",
        "bitcoind listens on tcp 4444, which the plan does not list",
        f"bitcoind: {FOREIGN}",
        f"bitcoind: {ENABLED}",
        f"bitcoind: {EDITED} differs from the base image of this version",
        f"{NETWORK} lets {rule['source']} reach {rule['destination']} tcp 22,18443, which the plan does not list",
    }
    assert expected <= problems
    # without those rules nobody keeps tor's user from the resolvers of other data centers
    more = problems - expected
    assert all(re.match(r"tor \(as debian-tor\) .* (tcp|udp) 53,", problem) for problem in more), more
    assert f"\nbitcoind: {FOREIGN}\n" in shown
    assert done.returncode == 1
    assert done.stdout.endswith(f"\nNot in order: {len(problems)} of the lines above\n")
    assert proved(person)["problems"] == []


def test_stopped_instances_are_named(person: Person, started: dict[str, Any]) -> None:
    with client("local") as lxd:
        lxd.call("PUT", "/1.0/instances/electrum/state", {"action": "stop", "timeout": 30}, what="stop electrum")
        try:
            shown = person.succeeds("privacy")
        finally:
            lxd.call("PUT", "/1.0/instances/electrum/state", {"action": "start"}, what="start electrum")
    assert "its network is off (tor_network)" in shown
    assert shown.endswith("\nNothing but Tor leaves\n")
    assert "electrum does not run: nothing was tested from there, or to it" in shown
    done = person.types("-d", person.datacenter("nowhere"), "privacy")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Nothing runs in data center nowhere (regtest), so nothing can be tested" in done.stderr


def test_clients_of_an_onion_service_are_authorized_and_revoked(person: Person, started: dict[str, Any]) -> None:
    """On regtest tor has no network, and says so; tests/tor has one."""
    name = "electrs-electrum"
    store = ServicesFile(person.home / "inventories/local/secrets", "regtest")
    done = person.types("onion", "authorize", "alice", name, "--json")
    assert done.returncode == 0, done.stderr
    admitted = json.loads(done.stdout)
    assert "tor in instance tor does not use the network: no onion service is published" in done.stderr
    service = store.read()[name]
    key = service.clients["alice"]
    assert (admitted["key"], admitted["address"]) == (key.text, service.key.address)
    clients = f"/var/lib/tor/onions/{name}/authorized_clients"
    assert inside("local", "tor", "cat", f"{clients}/alice.auth") == key.service_line.strip()
    listed = json.loads(person.succeeds("onion", "list", "--json"))["services"]
    assert {item["service"]: (item["clients"], item["published"]) for item in listed}[name] == (["alice"], False)
    # once more is the same
    again = json.loads(person.succeeds("onion", "authorize", "alice", name, "--json"))
    assert again == admitted
    states = {item["service"]: item["state"] for item in proved(person)["tor"]["services"]}
    assert states[name] == "not published: tor does not use the network"
    revoked = json.loads(person.succeeds("onion", "revoke", "alice", "--json"))
    assert revoked == {"revoked": "alice", "services": {name: []}}
    assert inside("local", "tor", "ls", clients) == "nobody.auth"
