# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A call of gRPC, and what servers answer."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable
from contextlib import closing

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.grpc import answer, call, is_refused
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Endpoint, Fault

METHOD = "/cln.Node/Getinfo"


def frame(kind: int, flags: int, payload: bytes = b"", stream: int = 1) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS, HEADERS, TRAILERS = frame(4, 0, stream=0), frame(1, 4, b"\x88"), frame(1, 5, b"\x88")
MESSAGE = b"\x00\x00\x00\x00\x05hello"


def served(reply: bytes, ask: Callable[[Endpoint], object]) -> tuple[object, bytes]:
    """What a call makes of a reply, and what the server was sent."""
    sent = b""

    def serve() -> None:
        nonlocal sent
        connection, _address = listener.accept()
        with connection:
            while not sent.endswith(frame(0, 1, b"\0\0\0\0\x02hi")) and not sent.endswith(frame(0, 1, bytes(5))):
                sent += connection.recv(65536)
            connection.sendall(reply)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return ask(Endpoint(*listener.getsockname())), sent
        finally:
            thread.join()


def test_message_is_sent_and_answered() -> None:
    reply = SETTINGS + frame(4, 1, stream=0) + HEADERS + frame(0, 0, MESSAGE[:7]) + frame(0, 0, MESSAGE[7:]) + TRAILERS
    found, sent = served(reply, lambda place: call(place, METHOD, b"hi"))
    assert found == b"hello"
    assert sent.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") and METHOD.encode() in sent


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (HEADERS + frame(0, 1, MESSAGE), b"hello"),
        (HEADERS + frame(0, 9, b"\x02" + MESSAGE + b"\0\0"), b"hello"),  # padded
        (HEADERS + frame(0, 0, b"of another", stream=3) + frame(0, 1, MESSAGE), b"hello"),
        (TRAILERS, None),  # the method failed
        (HEADERS + frame(0, 1, MESSAGE[:-1]), None),
        (HEADERS + frame(3, 0, bytes(4)), None),
        (frame(7, 0, bytes(8), stream=0), None),
    ],
)
def test_answer_is_one_whole_message(reply: bytes, found: bytes | None) -> None:
    assert answer(io.BytesIO(reply)) == found


@pytest.mark.parametrize(
    "reply", [b"", SETTINGS + HEADERS, HEADERS + frame(0, 0, MESSAGE), b"HTTP/1.1 400 Bad Request"]
)
def test_connection_that_ends_before_is_refused(reply: bytes) -> None:
    with pytest.raises(Fault, match="nothing answers at 127.0.0.1"):
        served(reply, lambda place: call(place, METHOD))
    assert served(reply, lambda place: is_refused(place, METHOD))[0] is True


def test_method_that_fails_has_an_answer() -> None:
    with pytest.raises(Fault, match=f"answers {METHOD} with an error"):
        served(TRAILERS, lambda place: call(place, METHOD))
    assert served(TRAILERS, lambda place: is_refused(place, METHOD))[0] is False
