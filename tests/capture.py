# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What instances send on some bridges, from before these exist; packet(7) has the constants."""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from ipaddress import ip_address

_ALL, _ARP, _IP4 = 0x0003, 0x0806, 0x0800
_OUTGOING = 4
_ATTACH_FILTER, _BUFFER_FORCE = 26, 33
_PACKET, _STATISTICS = 263, 6
_LOOPBACK = 1  # its index; what is sent there leaves nothing
# classic BPF: what goes out on an interface, and what is on loopback, is dropped, 96 bytes of all else are kept
_FILTER = (
    *((0x20, 0, 0, 0xFFFFF004), (0x15, 3, 0, _OUTGOING)),  # the type of the packet
    *((0x20, 0, 0, 0xFFFFF008), (0x15, 1, 0, _LOOPBACK)),  # the index of the interface
    *((0x06, 0, 0, 96), (0x06, 0, 0, 0)),
)


class Capture:
    """Counts packets that come from instances, by what they are: ``arp``, or source, destination and so on."""

    def __init__(self, bridges: Collection[str]) -> None:
        self._bridges = set(bridges)
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ALL))
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _FILTER))
        program = struct.pack("HL", len(_FILTER), ctypes.addressof(code))
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
                data, (name, protocol, *_rest) = self._socket.recvfrom(96)
                if name in self._bridges:
                    with self._lock:
                        self._seen[described(protocol, data)] += 1


def described(protocol: int, packet: bytes) -> str:
    """A packet in words: `arp`, `tcp 10.0.0.2 192.0.2.1:443`, or what else it is."""
    if protocol == _ARP:
        return "arp"
    if protocol != _IP4:
        return f"ethertype 0x{protocol:04x}"
    source, to = ip_address(packet[12:16]), ip_address(packet[16:20])
    transport, start = packet[9], 4 * (packet[0] & 15)
    if transport not in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
        return f"protocol {transport} {source} {to}"
    port = int.from_bytes(packet[start + 2 : start + 4], "big")
    return f"{'tcp' if transport == socket.IPPROTO_TCP else 'udp'} {source} {to}:{port}"


@contextlib.contextmanager
def capturing(*bridges: str) -> Iterator[Capture]:
    capture = Capture(bridges)
    try:
        yield capture
    finally:
        capture.close()
