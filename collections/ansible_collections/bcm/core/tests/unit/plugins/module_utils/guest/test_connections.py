# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.connections import Connection, connections, is_allowed

OWN, OTHER, WORLD = "10.80.16.5", "10.80.16.9", "203.0.113.7"
RULES = [
    {"source": f"{OWN}/32", "destination": f"{OTHER}/32", "protocol": "tcp", "destination_port": "8332"},
    {"source": f"{OTHER}/32", "destination": f"{OWN}/32", "protocol": "tcp", "destination_port": "50001"},
    {"source": f"{OWN}/32", "destination": "198.51.100.0/24,203.0.113.0/24", "protocol": "tcp",
     "destination_port": "1-52,54-65535"},
    {"destination": f"{OWN}/32", "protocol": "tcp", "destination_port": "9001"},
]  # fmt: skip


def test_connections_are_read_as_the_kernel_shows_them(tmp_path: Path) -> None:
    def digits(address: str, family: int = socket.AF_INET) -> str:
        raw = socket.inet_pton(family, address)
        words = [raw[at : at + 4] for at in range(0, len(raw), 4)]
        return "".join((word[::-1] if sys.byteorder == "little" else word).hex().upper() for word in words)

    lines = [
        f"0: {digits('10.0.0.2')}:C350 {digits('10.0.0.3')}:208C 01 0",
        f"1: {digits('10.0.0.2')}:C351 {digits('10.0.0.3')}:208C 06 0",  # TIME_WAIT
        f"2: {digits('127.0.0.1')}:C352 {digits('127.0.0.1')}:208C 01 0",
        f"3: {digits('0.0.0.0')}:208C {digits('0.0.0.0')}:0000 0A 0",
    ]
    (tmp_path / "tcp").write_text("\n".join(["head", *lines]) + "\n")
    mapped = digits("::ffff:10.0.0.4", socket.AF_INET6)
    (tmp_path / "tcp6").write_text(f"head\n0: {mapped}:0001 {mapped[:-8]}{digits('10.0.0.5')}:0002 01 0\n")
    assert connections(tmp_path) == [
        Connection("tcp", "10.0.0.2", 50000, "10.0.0.3", 8332),
        Connection("tcp", "10.0.0.4", 1, "10.0.0.5", 2),
    ]
    assert str(connections(tmp_path)[0]) == "tcp 10.0.0.2:50000 to 10.0.0.3:8332"


@pytest.mark.parametrize(
    ("connection", "allowed"),
    [
        (("tcp", OWN, 40000, OTHER, 8332), True),
        (("tcp", OWN, 50001, OTHER, 40000), True),
        (("tcp", OWN, 40000, WORLD, 443), True),
        (("tcp", OWN, 9001, "192.0.2.1", 40000), True),
        (("udp", OWN, 40000, "10.80.16.1", 53), True),
        (("tcp", OWN, 40000, WORLD, 53), False),
        (("udp", OWN, 40000, WORLD, 443), False),
        (("tcp", OWN, 40000, OTHER, 8333), False),
        (("tcp", OWN, 8332, OTHER, 40000), False),
        (("tcp", OTHER, 40000, WORLD, 443), False),
        (("tcp", OWN, 40000, "10.80.16.1", 22), False),
        (("tcp", OWN, 40000, "192.0.2.1", 9001), False),
        (("tcp", "fd00::1", 40000, "2001:db8::1", 443), False),
    ],
)
def test_connection_is_allowed_by_a_rule_in_its_direction(connection: Any, allowed: bool) -> None:
    assert is_allowed(Connection(*connection), RULES, ["10.80.16.1"]) is allowed
