# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What instances send on some bridges, from before these exist, and what this machine sends on its ways out.

packet(7) has the constants.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

_ALL, _ARP, _IP4, _IP6 = 0x0003, 0x0806, 0x0800, 0x86DD
_OUTGOING = 4
_ATTACH_FILTER, _BUFFER_FORCE = 26, 33
_PACKET, _STATISTICS = 263, 6
_LOOPBACK = 1  # its index; what is sent there leaves nothing
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_TYPE, _INTERFACE = 0xFFFFF004, 0xFFFFF008  # where a filter finds them


def _filter(ways_out: Collection[str]) -> list[tuple[int, int, int, int]]:
    """Classic BPF: of what goes out on other interfaces, and of loopback, nothing is kept; 96 bytes of all else."""
    kept = [socket.if_nametoindex(name) for name in ways_out]
    return [
        (_LOAD, 0, 0, _INTERFACE),
        *((_EQUAL, len(kept) - number + 2, 0, index) for number, index in enumerate(kept)),
        *((_EQUAL, 3, 0, _LOOPBACK), (_LOAD, 0, 0, _TYPE), (_EQUAL, 1, 0, _OUTGOING)),
        *((_RETURN, 0, 0, 96), (_RETURN, 0, 0, 0)),
    ]


class Capture:
    """Counts packets that come from instances, by what they are: ``arp``, or source, destination and so on.

    With ``ways_out``, interfaces that exist, also what this machine sends there.
    """

    def __init__(self, bridges: Collection[str], ways_out: Collection[str] = ()) -> None:
        self._bridges, self._ways_out = set(bridges), set(ways_out)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        lines = _filter(ways_out)
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
        program = struct.pack("HL", len(lines), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
        self._socket.setsockopt(socket.SOL_SOCKET, _BUFFER_FORCE, 2**28)
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._dropped = 0
        threading.Thread(target=self._read, daemon=True).start()

    def seen(self) -> Counter[str]:
        """What was seen until now. Fails if the kernel had to drop a packet."""
        self._dropped += struct.unpack("II", self._socket.getsockopt(_PACKET, _STATISTICS, 8))[1]
        assert not self._dropped, f"{self._dropped} packets were not looked at"
        with self._lock:
            return Counter(self._seen)

    def close(self) -> None:
        self._socket.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                data, (name, protocol, kind, *_rest) = self._socket.recvfrom(96)
                if name in (self._ways_out if kind == _OUTGOING else self._bridges):
                    with self._lock:
                        self._seen[described(protocol, data)] += 1


def described(protocol: int, packet: bytes) -> str:
    """A packet in words: `arp`, `tcp 10.0.0.2 192.0.2.1:443`, `ipv6 58 fe80::1 ff02::2`, or what else it is."""
    if protocol == _ARP:
        return "arp"
    if protocol == _IP6:
        return f"ipv6 {packet[6]} {ip_address(packet[8:24])} {ip_address(packet[24:40])}"
    if protocol != _IP4:
        return f"ethertype 0x{protocol:04x}"
    source, to = ip_address(packet[12:16]), ip_address(packet[16:20])
    transport, start = packet[9], 4 * (packet[0] & 15)
    if transport not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return f"protocol {transport} {source} {to}"
    port = int.from_bytes(packet[start + 2 : start + 4], "big")
    return f"{'tcp' if transport == socket.IPPROTO_TCP else 'udp'} {source} {to}:{port}"


def destination(packet: str) -> IPv4Address | IPv6Address | None:
    """Where a packet in words goes to; None for what is not of IP."""
    words = packet.split()
    try:
        return ip_address(words[-1] if words[0] == "ipv6" else words[-1].partition(":")[0])
    except ValueError:
        return None


@contextlib.contextmanager
def capturing(*bridges: str, ways_out: Collection[str] = ()) -> Iterator[Capture]:
    capture = Capture(bridges, ways_out)
    try:
        yield capture
    finally:
        capture.close()
