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

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._tor.relay import parse_identity
from tests import tornet
from tests.integration.conftest import Site
from tests.support import LXD_DIR, RELAYS, ROOT, Tools

pytestmark = [pytest.mark.containers, pytest.mark.apart]


class Onions(Site):
    """A data center whose tor uses the tests' network."""

    def __init__(self, tools: Tools, folder: Path, relays: tornet.TorNetwork) -> None:
        told = {"stack": "tor", "tor_source": "debian", "tor_network": True, "tor_lines": relays.lines}
        super().__init__(tools, folder, "onions", **told)
        self.relays = relays
        port = re.search(r"orport=(\d+)", relays.lines[1])
        assert port is not None
        self._connect = f"import socket; socket.create_connection(('{RELAYS}', {port[1]}), 2)"

    def tor_leaves(self) -> bool:
        """Whether its user reaches a relay."""
        argv = ("setpriv", "--reuid=debian-tor", "--clear-groups", "python3", "-c", self._connect)
        return self.inside(*argv).returncode == 0

    @contextmanager
    def uplink_down(self) -> Iterator[None]:
        with Client(str(LXD_DIR / "unix.socket"), project=self.project) as lxd:
            interface = lxd.get("/1.0/instances/tor")["config"]["volatile.eth1.host_name"]
        subprocess.run(["ip", "link", "set", interface, "down"], check=True)
        yield
        subprocess.run(["ip", "link", "set", interface, "up"], check=True)

    def has_a_service(self) -> dict[str, Any]:
        """Deploy tor, something to listen behind it, and the service; what it is like."""
        self.run()
        listen = ("python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/srv", "8080")
        self.inside("systemd-run", "--unit=web", *listen)
        self.run(playbook=ROOT / "tests/integration/onions.yml", project=self.project, folder=str(self.folder))
        told: dict[str, Any] = json.loads((self.folder / "told.json").read_text())
        return told


@pytest.fixture
def site(lxd_tools: Tools, tmp_path: Path, relays: tornet.TorNetwork) -> Iterator[Onions]:
    site = Onions(lxd_tools, tmp_path, relays)
    yield site
    site.goes()


@pytest.fixture
def site_apart(lxd_tools: Tools, tmp_path: Path, relays: tornet.TorNetwork) -> Iterator[Onions]:
    """In a network of its own: a relay that goes stays in the consensus, and others would go on choosing it."""
    with tornet.running([RELAYS]) as network:
        site = Onions(lxd_tools, tmp_path, network)
        yield site
        site.goes()


def test_an_address_outlives_its_instance(site: Onions, relays: tornet.TorNetwork) -> None:
    first = site.has_a_service()
    address = first["info"][0]["address"]
    assert first["published"] == ["web"]
    assert (first["info"][0]["published"], first["info"][0]["clients"]) == (True, ["alice"])
    alice = tornet.Client(relays, "alice", first["client"]["auth_private"])
    alice.tor.bootstrapped()
    assert alice.get(address, say=b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 OK")
    assert tornet.NO_KEY in tornet.refusal(relays, address)

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


def test_a_relay_outlives_its_instance(site_apart: Onions, tmp_path: Path) -> None:
    site, relays = site_apart, site_apart.relays
    where = {"torrelay_source": "debian", "torrelay_or_host_port": f"{RELAYS}:9001", "torrelay_address": RELAYS}
    middle = {"stack": "torrelay", "tor_relay": "middle", **where}
    site.run(**middle)
    secrets = json.loads((tmp_path / "secrets/regtest.json").read_text())
    fingerprint = parse_identity(secrets["torrelay/relay_identity"]).fingerprint
    # the authorities have reached it where it is published
    line, descriptor = relays.listed(fingerprint)
    assert line.split()[-3:-1] == [RELAYS, "9001"]
    assert "\nreject *:*\n" in descriptor and "\naccept" not in descriptor

    # the instance and its volume are destroyed
    site.run(**middle, state="absent", delete_data=True)
    site.run(tor_relay="middle", **where)
    relays.listed(fingerprint, but=line)

    site.run()
    with Client(str(LXD_DIR / "unix.socket"), project=site.project) as lxd:
        assert [instance["name"] for instance in lxd.get("/1.0/instances", recursion=1)] == ["tor"]
