# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ICMP messages; tests/e2e tests what a host with and without its rules answers."""

from __future__ import annotations

import socket
import struct

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.host_reply import is_rejection


def message(host: str, own: int, port: int = 9, options: int = 0) -> bytes:
    """Return an IPv4 packet: an ICMP message about a TCP packet to a port of the host; each header has options."""
    header = bytes([0x45 + options]) + bytes(11) + socket.inet_aton("10.0.0.2")
    outer = header + bytes(4 + 4 * options) + bytes([3, 3]) + bytes(6)
    return outer + header + socket.inet_aton(host) + bytes(4 * options) + struct.pack("!HH", own, port) + bytes(4)


@pytest.mark.parametrize("options", [0, 1, 10])
def test_message_about_the_own_connection_is_a_rejection(options: int) -> None:
    assert is_rejection(message("10.0.0.1", 4000, options=options), "10.0.0.1", 4000)


@pytest.mark.parametrize(
    "packet", [message("10.0.0.1", 4001), message("10.0.0.3", 4000), message("10.0.0.1", 4000, 10), b"\x45" + bytes(27)]
)
def test_message_about_another_connection_is_no_rejection(packet: bytes) -> None:
    assert not is_rejection(packet, "10.0.0.1", 4000)


@pytest.mark.parametrize("length", range(1, 56))
def test_truncated_message_is_no_rejection(length: int) -> None:
    assert is_rejection(message("10.0.0.1", 4000)[:length], "10.0.0.1", 4000) == (length >= 52)
