# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SOCKS proxy that leads to some places and refuses all others. tests/e2e has a browser behind it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import forward
from ansible_collections.bcm.core.plugins.module_utils._lxd.forward import Destination, socks_proxy

KNOWN = {("10.0.0.2", 8443): Destination("shop", "10.0.0.2:8443"), ("shop.home.bcm", 8443): Destination("shop", "name")}
GREETING = bytes([5, 1, 0])


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a proxy that answers with where it would lead."""

    def carry(_client: Any, instance: str, place: str, connection: socket.socket) -> None:
        connection.sendall(f"{instance} {place}".encode())

    monkeypatch.setattr(forward, "_carry", carry)
    with socks_proxy(None, KNOWN) as number:  # type: ignore[arg-type]
        yield number


def _answer(port: int, *sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        data = b""
        for part in sent:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(1024):
            data += more
    return data


def _request(host: bytes | str, port: int, command: int = 1) -> bytes:
    target = bytes([3, len(host)]) + host.encode() if isinstance(host, str) else bytes([1]) + host
    return bytes([5, command, 0]) + target + port.to_bytes(2, "big")


GRANTED, REFUSED = (bytes([5, 0, 5, status, 0, 1, 0, 0, 0, 0, 0, 0]) for status in (0, 2))


@pytest.mark.parametrize(("host", "place"), [(b"\n\0\0\2", b"10.0.0.2:8443"), ("Shop.home.bcm", b"name")])
def test_known_places_are_reached_by_address_and_by_name(port: int, host: bytes | str, place: bytes) -> None:
    assert _answer(port, GREETING, _request(host, 8443)) == GRANTED + b"shop " + place


@pytest.mark.parametrize(
    "request_",
    [
        _request(b"\n\0\0\2", 443),
        _request(b"\n\0\0\3", 8443),
        _request("example.org", 8443),
        _request("shop.home.bcm", 8443, command=2),
        bytes([5, 1, 0, 4, *[0] * 16, 0, 80]),
    ],
)
def test_all_others_are_refused(port: int, request_: bytes) -> None:
    assert _answer(port, GREETING, request_) == REFUSED


@pytest.mark.parametrize("sent", [b"", b"\5", bytes([5, 1]), GREETING + b"\5\1"])
def test_incomplete_requests_lead_nowhere(port: int, sent: bytes) -> None:
    assert b"shop" not in _answer(port, sent)


@pytest.mark.parametrize("sent", [bytes([4, 0]), bytes([5, 1, 2])])
def test_other_protocols_and_methods_are_not_answered(port: int, sent: bytes) -> None:
    assert _answer(port, sent) == b""
