# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in instances, with the standard library alone: the connections of the instance, as the kernel knows them."""

from __future__ import annotations

import functools
import ipaddress
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

#: what the kernel knows them by, below /proc/net
TABLES = ("tcp", "tcp6", "udp", "udp6")
# the resolver of the network, and its DHCP server
_OF_THE_NETWORK = (53, 67)
# Each rule is compared with each connection.
_network = functools.cache(ipaddress.ip_network)
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
    there = (name for name in TABLES if (proc / name).exists())
    return [item for name in there for item in parse(name, (proc / name).read_text(encoding="ascii").splitlines()[1:])]


def parse(table: str, lines: Iterable[str]) -> list[Connection]:
    """The connections in lines of a table, without its heading. Raises ValueError."""
    found = []
    for line in lines:
        _slot, near, far, state = line.split()[:4]
        (own, port), (other, other_port) = _end(near), _end(far)
        is_local = ipaddress.ip_address(own).is_loopback or own == other
        # a state says nothing about UDP; without another end it is no connection
        if other_port and not is_local and (table.startswith("udp") or state not in _OVER):
            found.append(Connection(table[:3], own, port, other, other_port))
    return found


def is_allowed(connection: Connection, rules: Iterable[Mapping[str, str]], gateways: Iterable[str]) -> bool:
    """Whether a rule allows it, in the direction in which it was made; which of the two is not known any more."""
    protocol, own, port, other, far_port = astuple(connection)
    if other in gateways and far_port in _OF_THE_NETWORK:
        return True
    return any(
        rule["protocol"] == protocol
        and (
            (_within(own, rule.get("source")) and _within(other, rule["destination"]) and _among(far_port, rule))
            or (_within(other, rule.get("source")) and _within(own, rule["destination"]) and _among(port, rule))
        )
        for rule in rules
    )


def _within(address: str, networks: str | None) -> bool:
    """Whether an address is in one of some networks, separated by commas; in any if there are none."""
    there = ipaddress.ip_address(address)
    return not networks or any(there in _network(network) for network in networks.split(","))


def _among(port: int, rule: Mapping[str, str]) -> bool:
    """Whether a port is among those of a rule, such as 1-52,54."""
    ends = [part.partition("-") for part in rule["destination_port"].split(",")]
    return any(int(first) <= port <= int(last or first) for first, _hyphen, last in ends)


def _end(text: str) -> tuple[str, int]:
    """An address and a port as the kernel shows them: words of 32 bits in the machine's own order of bytes."""
    address, port = text.split(":")
    raw = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    if len(raw) == 16 and raw.startswith(b"\0" * 10 + b"\xff\xff"):
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)
