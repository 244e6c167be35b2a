# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in instances, with the standard library alone: the connections of the instance, as the kernel knows them."""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

# TIME_WAIT, CLOSE and LISTEN: nothing passes
_OVER = ("06", "07", "0A")


@dataclass(frozen=True, order=True)
class Connection:
    """A connection of the instance, by its protocol (tcp, udp) and both ends."""

    protocol: str
    own: str
    port: int
    other: str
    other_port: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.own}:{self.port} to {self.other}:{self.other_port}"


def connections(proc: Path = Path("/proc/net")) -> list[Connection]:
    """All connections that are up or about to be, without loopback."""
    found = []
    for name in ("tcp", "tcp6", "udp", "udp6"):
        path = proc / name
        for line in path.read_text(encoding="ascii").splitlines()[1:] if path.exists() else ():
            _slot, near, far, state = line.split()[:4]
            (own, port), (other, other_port) = _end(near), _end(far)
            is_local = ipaddress.ip_address(own).is_loopback or own == other
            # a state says nothing about UDP; without another end it is no connection
            if other_port and not is_local and (name.startswith("udp") or state not in _OVER):
                found.append(Connection(name[:3], own, port, other, other_port))
    return found


def _end(text: str) -> tuple[str, int]:
    """An address and a port as the kernel shows them: words of 32 bits in the machine's own order of bytes."""
    address, port = text.split(":")
    raw = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    if len(raw) == 16 and raw.startswith(b"\0" * 10 + b"\xff\xff"):
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)
