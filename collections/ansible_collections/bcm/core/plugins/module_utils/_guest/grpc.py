# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One call of gRPC at a time, over HTTP/2 (RFC 9113), as far as that takes; for programs of the standard library.

In the instance, this is ``bcm_guest.grpc``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from .prove import Endpoint, Fault

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
#: kinds of frames (RFC 9113, section 6)
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x7
#: flags of frames
_END_STREAM, _END_HEADERS, _PADDED = 0x1, 0x4, 0x8
_STREAM = 1
_LONGEST = 1 << 14  # bytes of a frame, which a server has to keep to unless it is told otherwise
#: bytes of an answer, less than what a server may send without being asked to go on (RFC 9113, section 6.9.2)
_MOST = 65535
_PREFIX = 5  # bytes before a message: whether it is compressed, and its length


def call(place: Endpoint, method: str, message: bytes = b"") -> bytes:
    """The answer of a method, such as ``/cln.Node/Getinfo``; both messages are those of Protocol Buffers.

    Raises Fault, also if the method fails.
    """
    try:
        found = _exchange(place, method, message)
    except (OSError, ValueError) as error:
        raise Fault(f"nothing answers at {place}: {error!r}") from error
    if found is None:
        raise Fault(f"{place} answers {method} with an error")
    return found


def is_refused(place: Endpoint, method: str) -> bool:
    """Whether the connection ends before there is an answer of any kind: the server does not let this client in."""
    try:
        _exchange(place, method, b"")
    except (OSError, ValueError):
        return True
    return False


def _exchange(place: Endpoint, method: str, message: bytes) -> bytes | None:
    """What `answer` finds on a connection of its own. Raises OSError, ValueError."""
    with place.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(request(place.address, method, message))
        return answer(stream)


def request(authority: str, method: str, message: bytes) -> bytes:
    """All bytes that a client sends of a call."""
    headers = {
        ":method": "POST", ":scheme": "https", ":path": method, ":authority": authority,
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers.items())
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, _STREAM, block)
        + _frame(_DATA, _END_STREAM, _STREAM, body)
    )


def _text(text: str) -> bytes:
    """A text that is not compressed (RFC 7541, section 5.2), of at most 126 bytes."""
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def answer(stream: BinaryIO) -> bytes | None:
    """The message in what a server sends; None if it has sent an error. Raises ValueError if that is not HTTP/2."""
    data = b""
    for kind, flags, number, payload in _frames(stream):
        if kind == _GOAWAY or (kind == _RST_STREAM and number == _STREAM):
            return None
        if number != _STREAM:
            continue
        if kind == _DATA:
            data += payload[1 : len(payload) - payload[0]] if flags & _PADDED and payload else payload
        if len(data) > _MOST:
            raise ValueError("the answer is too long")
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            break
    length = int.from_bytes(data[1:_PREFIX], "big")
    return data[_PREFIX:] if data[:1] == b"\x00" and len(data) == _PREFIX + length else None


def _frames(stream: BinaryIO) -> Iterator[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of each frame. Raises ValueError at the end."""
    while len(head := stream.read(9)) == 9:
        length = int.from_bytes(head[:3], "big")
        if length > _LONGEST or len(payload := stream.read(length)) < length:
            break
        yield head[3], head[4], int.from_bytes(head[5:], "big"), payload
    raise ValueError("the connection ended, or it is not HTTP/2")
