# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import sys
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._guest.connections import Connection, connections


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
