# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Root in one instance sends DHCP messages in the name of another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import Command, run
from ansible_collections.bcm.core.plugins.module_utils._lxd.instance_handler import addresses
from tests.integration.conftest import apply
from tests.support import PATIENCE

pytestmark = pytest.mark.containers

NETWORK, GATEWAY = "bcmtestdhcp", "10.211.6.1"
ADDRESSES = {"bcm-test-victim": "10.211.6.2", "bcm-test-forger": "10.211.6.3"}
#: hardware address and address of the other, and of the server
FORGED = """\
import socket, struct, sys
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
address, server = (socket.inet_aton(text) for text in sys.argv[2:])
link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
link.bind(("eth0", 0))
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
options = [(53, bytes([4])), (54, server), (61, b"\\x01" + mac), (50, address)]
body = b"".join(bytes([code, len(value)]) + value for code, value in options) + b"\\xff"
head = struct.pack("!BBBBIHH4s12x16s192xI", 1, 1, 6, 0, 7, 0, 0, bytes(4), mac, 0x63825363)
udp = struct.pack("!HHHH", 68, 67, 8 + len(head + body), 0) + head + body
ip = struct.pack("!BBHHHBBH4s4s", 69, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\\xff" * 4)
ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
link.send(b"\\xff" * 6 + link.getsockname()[4] + b"\\x08\\x00" + ip + udp)
"""


@pytest.fixture
def instances(client: Client, variables: dict[str, str]) -> Iterator[list[dict[str, Any]]]:
    network = {"kind": "network", "name": NETWORK}
    config = {
        "ipv4.address": f"{GATEWAY}/24",
        "ipv4.dhcp.ranges": f"{GATEWAY}-{GATEWAY}",
        "ipv6.address": "none",
        "raw.dnsmasq": "dhcp-ignore=tag:!known",
    }
    items = []
    for name, address in ADDRESSES.items():
        nic = {
            "type": "nic",
            "network": NETWORK,
            "ipv4.address": address,
            "security.mac_filtering": "true",
            "security.ipv4_filtering": "true",
        }
        devices = {"root": {"type": "disk", "pool": variables["bcm_test_pool"], "path": "/"}, "eth0": nic}
        item = {"kind": "instance", "name": name, "image": variables["bcm_test_image"], "devices": devices}
        items.append({**item, "wait_for": "address", "deadline": 120.0})
    try:
        apply(client, {**network, "config": config}, *({**item, "state": "started"} for item in items))
        yield items
    finally:
        gone = {"kind": "instance", "state": "absent", "force_stop": True}
        apply(client, *({**gone, "name": name} for name in ADDRESSES))
        apply(client, {**network, "state": "absent"})


def test_forged_decline_keeps_no_instance_from_its_address(client: Client, instances: list[dict[str, Any]]) -> None:
    victim, forger = ADDRESSES
    mac = client.get(f"/1.0/instances/{victim}")["config"]["volatile.eth0.hwaddr"]
    apply(client, {**instances[0], "state": "stopped"})
    words = ["python3", "-c", FORGED, mac, ADDRESSES[victim], GATEWAY]
    done = run(client, forger, Command(words), deadline=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    apply(client, {**instances[0], "state": "started"})
    assert addresses(client.get(f"/1.0/instances/{victim}/state")) == [ADDRESSES[victim]]
    assert client.get(f"/1.0/instances/{victim}")["devices"] == instances[0]["devices"]
