#!/usr/bin/env python3
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smallest program with a window (X11 protocol, version 11): says what it may read of the screen, and stays."""

from __future__ import annotations

import os
import socket
import struct
import sys

CREATE_WINDOW, MAP_WINDOW, CHANGE_PROPERTY, GET_IMAGE = 1, 8, 18, 73
WM_NAME, STRING = 39, 31


def first_cookie(data: bytes) -> tuple[bytes, bytes]:
    """Name and value of the first entry of an Xauthority file: family, address, display, name, value."""
    found, at = [], 2
    for _field in range(4):
        (length,) = struct.unpack_from(">H", data, at)
        found.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return found[2], found[3]


def padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            sys.exit(0)
        data += more
    return data


def main() -> None:
    with open(os.environ["XAUTHORITY"], "rb") as file:
        name, cookie = first_cookie(file.read())
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(f"/tmp/.X11-unix/X{os.environ['DISPLAY'].strip(':')}")
    sock.sendall(struct.pack("<cxHHHHxx", b"l", 11, 0, len(name), len(cookie)) + padded(name) + padded(cookie))
    status, words = struct.unpack("<BxxxxxH", exactly(sock, 8))
    setup = exactly(sock, 4 * words)
    if status != 1:
        sys.exit(f"the server refuses the cookie: {setup!r}")
    (own,) = struct.unpack_from("<I", setup, 4)
    vendor, formats = struct.unpack_from("<HxxxB", setup, 16)
    (root,) = struct.unpack_from("<I", setup, 32 + len(padded(b" " * vendor)) + 8 * formats)
    sock.sendall(struct.pack("<BBHIhhHHI", GET_IMAGE, 2, 5, root, 0, 0, 8, 8, 0xFFFFFFFF))
    answer = exactly(sock, 32)
    if answer[0] == 1:
        exactly(sock, 4 * struct.unpack_from("<I", answer, 4)[0])
    print("the screen can be read" if answer[0] == 1 else "the screen cannot be read", flush=True)
    window, title = own | 1, b"bcm test"
    sock.sendall(struct.pack("<BBHIIhhHHHHII", CREATE_WINDOW, 0, 8, window, root, 10, 10, 200, 100, 1, 1, 0, 0))
    words = 6 + len(padded(title)) // 4
    named = struct.pack("<BBHIIIBxxxI", CHANGE_PROPERTY, 0, words, window, WM_NAME, STRING, 8, len(title))
    sock.sendall(named + padded(title) + struct.pack("<BBHI", MAP_WINDOW, 0, 2, window))
    while True:
        exactly(sock, 32)


main()
