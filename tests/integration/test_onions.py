# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Onion services and a relay of a data center on a Tor network: reached, lost, and back as what they were."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import socks

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._plan.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._tor.relay import parse_identity
from tests import tornet
from tests.integration.conftest import apply
from tests.support import LXD_DIR, ROOT, Tools

pytestmark = pytest.mark.containers

DATACENTER = "onions"
PROJECT = datacenter_names(DATACENTER, "regtest").project
# the relays, which the tor of the data center reaches through its uplink: what is private it does not
BRIDGE, ADDRESS = "bcmtor", "192.0.2.1"


@pytest.fixture(scope="module")
def network(client: Client) -> Iterator[tornet.TorNetwork]:
    bridge = {"kind": "network", "name": BRIDGE}
    apply(client, {**bridge, "config": {"ipv4.address": f"{ADDRESS}/24", "ipv4.nat": False, "ipv6.address": "none"}})
    with tornet.running([ADDRESS]) as network:
        yield network
    apply(client, {**bridge, "state": "absent"})


class Site:
    """The data center, by its playbook."""

    def __init__(self, tools: Tools, folder: Path, network: tornet.TorNetwork) -> None:
        self._tools, self._folder, self._network = tools, folder, network
        self._inventory = folder / "hosts.yml"
        self._inventory.write_text((ROOT / "inventories/local/hosts.yml").read_text())
        (folder / "group_vars").mkdir()
        (folder / "group_vars/all.yml").write_text((ROOT / "inventories/local/group_vars/all.yml").read_text())
        self._told = {
            "bcm_datacenter": DATACENTER,
            "bcm_image_apt_options": ["Acquire::Check-Valid-Until=false"],
            "stack": "tor",
            "tor_source": "debian",
            "tor_network": True,
            "tor_lines": network.lines,
            "project": PROJECT,
            "folder": str(folder),
        }

    def run(self, playbook: Path, **more: Any) -> None:
        told = json.dumps({**self._told, **more})
        self._tools.run("ansible-playbook", "--inventory", self._inventory, "--extra-vars", told, playbook)

    def tor_leaves(self) -> bool:
        """Whether its user reaches a relay."""
        port = re.search(r"orport=(\d+)", self._network.lines[1])
        assert port is not None
        connect = f"import socket; socket.create_connection(('{ADDRESS}', {port[1]}), 2)"
        with Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as lxd:
            argv = ["setpriv", "--reuid=debian-tor", "--clear-groups", "python3", "-c", connect]
            return lxd_exec.run(lxd, "tor", argv, deadline=30).returncode == 0

    @contextmanager
    def uplink_down(self) -> Iterator[None]:
        with Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as lxd:
            interface = lxd.get("/1.0/instances/tor")["config"]["volatile.eth1.host_name"]
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)
        yield
        subprocess.run(["ip", "link", "set", interface, "up"], check=True)

    def has_a_service(self) -> dict[str, Any]:
        """Deploy tor, something to listen behind it, and the service; what it is like."""
        self.run(ROOT / "site.yml")
        listen = ["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/srv", "8080"]
        with Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as lxd:
            lxd_exec.run(lxd, "tor", ["systemd-run", "--unit=web", *listen], deadline=30)
        self.run(ROOT / "tests/integration/onions.yml")
        told: dict[str, Any] = json.loads((self._folder / "told.json").read_text())
        return told

    def goes(self) -> None:
        self.run(ROOT / "site.yml", state="absent", delete_data=True)


@pytest.fixture
def site(lxd_tools: Tools, tmp_path: Path, network: tornet.TorNetwork) -> Iterator[Site]:
    site = Site(lxd_tools, tmp_path, network)
    yield site
    site.goes()


def test_an_address_outlives_its_instance(site: Site, network: tornet.TorNetwork) -> None:
    first = site.has_a_service()
    address = first["info"][0]["address"]
    assert first["published"] == ["web"]
    assert (first["info"][0]["published"], first["info"][0]["clients"]) == (True, ["alice"])
    alice = tornet.Client(network, "alice", first["client"]["auth_private"])
    eve = tornet.Client(network, "eve")
    for client in (alice, eve):
        client.tor.bootstrapped()
    assert alice.get(address, say=b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK")
    with pytest.raises(socks.ProxyError, match=tornet.NO_KEY):
        eve.get(address)

    # its uplink goes and comes back
    with site.uplink_down():
        assert not site.tor_leaves()
    end = time.monotonic() + 30
    while not site.tor_leaves():
        assert time.monotonic() < end, "the uplink is up, and nothing leaves"
    assert alice.get(address, say=b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK")

    # the instance and its volume are destroyed
    site.goes()
    second = site.has_a_service()
    assert second["published"] == ["web"]
    assert (second["info"], second["client"]) == (first["info"], first["client"])
    assert alice.get(address, say=b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK")


def test_a_relay_outlives_its_instance(site: Site, network: tornet.TorNetwork, tmp_path: Path) -> None:
    where = {"torrelay_or_published": f"{ADDRESS}:9001", "torrelay_address": ADDRESS}
    middle = {"stack": "torrelay", "tor_relay": "middle", **where}
    site.run(ROOT / "site.yml", **middle)
    secrets = json.loads((tmp_path / "secrets/regtest.json").read_text())
    fingerprint = parse_identity(secrets["torrelay/relay_identity"]).fingerprint
    # the authorities have reached it where it is published
    line, flags = network.listed(fingerprint)
    assert line.split()[-3:-1] == [ADDRESS, "9001"]
    assert "Exit" not in flags

    # the instance and its volume are destroyed
    site.run(ROOT / "site.yml", **middle, state="absent", delete_data=True)
    site.run(ROOT / "site.yml", tor_relay="middle", **where)
    network.listed(fingerprint, but=line)

    site.run(ROOT / "site.yml")
    with Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as lxd:
        assert [instance["name"] for instance in lxd.get("/1.0/instances", recursion=1)] == ["tor"]
