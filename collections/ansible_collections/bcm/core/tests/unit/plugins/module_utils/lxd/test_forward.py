# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A port of this machine that leads to one that an instance reaches."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import forward, streams

from .instance import Instance, as_instance


class _Echo(socketserver.StreamRequestHandler):
    """Says hello, and then what it is told, until it is told no more."""

    def handle(self) -> None:
        self.wfile.write(b"hello ")
        while data := self.connection.recv(65536):
            self.wfile.write(data)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with as_instance(monkeypatch) as instance:
        monkeypatch.setattr(forward, "connect", streams.connect)
        yield instance


@pytest.fixture
def place() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _answer(port: int, data: bytes) -> bytes:
    """What comes back for some data, after which nothing more is sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer


def test_each_connection_is_carried_both_ways_to_its_end(client: Any, place: str) -> None:
    data = bytes(range(256)) * 100
    with forward.forwarded(client, "one", place) as port:
        assert _answer(port, data) == b"hello " + data
        assert _answer(port, b"again") == b"hello again"
    assert len(client.processes) == 2


def test_a_place_that_does_not_answer_cuts_the_connection(client: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
    with forward.forwarded(client, "one", place) as port:
        assert _answer(port, b"") == b""


def test_the_port_is_closed_afterwards(client: Any, place: str) -> None:
    with forward.forwarded(client, "one", place) as port:
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=30)
