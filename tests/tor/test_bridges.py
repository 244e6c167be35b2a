# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bridge of obfs4, and a tor with the role's torrc that has no other way into the network."""

from __future__ import annotations

from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.bcm.core.plugins.module_utils._tor.bridges import faults
from tests.support import COLLECTION
from tests.tornet import Bridge, TorNetwork, free_port

ROLE = COLLECTION / "roles/tor"


def torrc(port: int, **variables: Any) -> list[str]:
    """Lines of the role's own torrc, without those that say where things are."""
    loader = DataLoader()
    defaults = loader.load_from_file(str(ROLE / "defaults/main.yml"), trusted_as_template=True)
    services = {"socks": {"port": port}}
    bcm = {"address": "127.0.0.1", "services": services, "consumers": {}, "chain": "regtest", "builders": None}
    templar = Templar(loader=loader, variables={**defaults, "bcm": bcm, "ansible_managed": "", **variables})
    lines = templar.template(trust_as_template((ROLE / "templates/torrc.j2").read_text())).splitlines()
    elsewhere = ("Log ", "DataDirectory", "Control", "Cookie", "%include")
    return [line for line in lines if not line.startswith(elsewhere)]


def test_obfs4_alone_leads_into_the_network(tor_network: TorNetwork) -> None:
    bridge = Bridge(tor_network, "bridge")
    assert faults([bridge.line], {}) == []
    tor = tor_network.tor("behind", *torrc(free_port(), tor_bridges=[bridge.line], tor_network=True))
    tor.start()
    tor.bootstrapped()
    with tor.control() as control:
        guards = control.getinfo("entry-guards")["entry-guards"]
        ways = control.getinfo("orconn-status")["orconn-status"]
    assert f"${bridge.fingerprint}" in guards
    connected = {line[1:41] for line in ways.splitlines() if line.endswith("CONNECTED")}
    assert connected == {bridge.fingerprint}, "somebody else than the bridge was connected to"
    tor.stop()
