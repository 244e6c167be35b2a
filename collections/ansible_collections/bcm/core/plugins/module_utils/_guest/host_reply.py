# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in an instance, as root: tests whether the host rejects a connection, as an access list says. Standard library
only.

What an access list rejects is answered by ICMP, an unfiltered connection by TCP itself.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
import sys
from typing import Any

_DISCARD = 9
# The kernel sends one ICMP message per second, after six in a row (icmp_ratelimit of icmp(7)), so one attempt to
# connect may have to be repeated, which TCP does.
_SECONDS = 4


def has_lost_rules(host: str) -> bool:
    """Return whether the host answers a connection to its port for "discard" by TCP, and does not reject it by ICMP."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as messages,
        socket.socket() as connection,
    ):
        connection.settimeout(_SECONDS)
        is_answered = connection.connect_ex((host, _DISCARD)) in (0, errno.ECONNREFUSED)
        own = connection.getsockname()[1]
        # The kernel hands an ICMP message to raw sockets before the connection hears of it.
        messages.setblocking(False)
        try:
            while True:
                if is_rejection(messages.recv(256), host, own):
                    return False
        except BlockingIOError:
            return is_answered


def is_rejection(packet: bytes, host: str, own: int) -> bool:
    """Return whether an ICMP packet is about a connection from the port ``own`` to that port of the host."""
    about = packet[(packet[0] & 15) * 4 :][8:]
    ports = about[(about[0] & 15) * 4 :][:4] if about else b""
    return ports == struct.pack("!HH", own, _DISCARD) and about[16:20] == socket.inet_aton(host)


def main(request: dict[str, Any]) -> dict[str, Any]:
    return {"lost": has_lost_rules(request["host"])}


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
