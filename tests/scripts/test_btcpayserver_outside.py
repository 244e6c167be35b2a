# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy by which BTCPay Server asks others: some hosts by another proxy, and nobody else."""

from __future__ import annotations

import asyncio
import importlib
import runpy
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest
import socks

from tests.support import COLLECTION

PROGRAM = COLLECTION / "roles/btcpayserver/scripts/btcpayserver_outside.py"


class _Tor(socketserver.BaseRequestHandler):
    """A proxy that connects to nothing: the host answers in its place."""

    def handle(self) -> None:
        stream = self.request.makefile("rwb", buffering=0)
        assert stream.read(3) == b"\x05\x01\x00"
        stream.write(b"\x05\x00")
        head = stream.read(4)
        host = stream.read(stream.read(1)[0] if head[3] == 3 else 4)
        self.server.asked.append((host, int.from_bytes(stream.read(2), "big")))
        stream.write(b"\x05" + self.server.answer + b"\x00\x01" + bytes(6))
        while self.server.answer == b"\x00" and (data := self.request.recv(100)):
            stream.write(data.upper())


class Tor(socketserver.ThreadingTCPServer):
    daemon_threads = True
    answer = b"\x00"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Tor)
        self.asked: list[tuple[bytes, int]] = []


@pytest.fixture
def tor() -> Iterator[Tor]:
    with Tor() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def port(tor: Tor) -> Iterator[int]:
    """Where the proxy listens that asks two hosts."""
    proxy = runpy.run_path(str(PROGRAM))["Proxy"](*tor.server_address, ["api.example.org", "192.0.2.1"])
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        server = loop.run_until_complete(asyncio.start_server(proxy.serve, "127.0.0.1", 0))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        yield server.sockets[0].getsockname()[1]
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()


def said(port: int, host: str, say: bytes = b"") -> bytes:
    """What a host answers by the proxy. Raises socks.ProxyError."""
    with socks.socksocket() as connection:
        connection.set_proxy(socks.SOCKS5, "127.0.0.1", port, rdns=True)
        connection.settimeout(10)
        connection.connect((host, 443))
        connection.sendall(say)
        connection.shutdown(1)
        found = b""
        while more := connection.recv(100):
            found += more
        return found


def test_listed_hosts_are_asked_by_the_other_proxy(tor: Tor, port: int) -> None:
    assert said(port, "api.example.org", b"hello") == b"HELLO"
    assert said(port, "API.example.org", b"again") == b"AGAIN"
    assert said(port, "192.0.2.1", b"address") == b"ADDRESS"
    assert tor.asked == [(b"api.example.org", 443), (b"API.example.org", 443), (bytes([192, 0, 2, 1]), 443)]


@pytest.mark.parametrize("host", ["example.org", "x.api.example.org", "api.example.org.", "192.0.2.2", "127.0.0.1"])
def test_all_others_are_refused_and_named(tor: Tor, port: int, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(socks.ProxyError, match="0x02: Connection not allowed by ruleset"):
        said(port, host)
    assert not tor.asked
    assert f"refused: {host} is in neither btcpayserver_rates nor _webhooks" in capsys.readouterr().err


def test_refusal_of_the_other_proxy_is_handed_on(tor: Tor, port: int) -> None:
    tor.answer = b"\x04"
    with pytest.raises(socks.ProxyError, match="0x04: Host unreachable"):
        said(port, "api.example.org")


def test_proxy_that_is_not_there_is_said(tor: Tor, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    tor.server_close()
    with pytest.raises(socks.ProxyError, match="0x01"):
        said(port, "api.example.org")
    assert "refused: tor does not answer" in capsys.readouterr().err


def test_run_sees_that_the_proxy_is_there_and_refuses(tor: Tor, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library = importlib.import_module("bcm_guest.prove")
    monkeypatch.setattr(library, "prove", lambda _look: None)
    check = runpy.run_path(str(PROGRAM.with_name("verify.py")))["check_proxy"]
    check(f"127.0.0.1:{port}")
    assert not tor.asked
    with pytest.raises(library.Fault, match="does not refuse a host that the inventory does not name: 0500"):
        check(f"127.0.0.1:{tor.server_address[1]}")
    tor.shutdown()
    tor.server_close()
    with pytest.raises(library.Fault, match=r"its proxy for the hosts .* does not answer"):
        check(f"127.0.0.1:{tor.server_address[1]}")


@pytest.mark.parametrize(
    "words", [b"", b"\x04\x01", b"\x05\x01\x02", b"\x05\x01\x00\x05\x02\x00\x01", b"GET / HTTP/1.1\r\n"]
)
def test_other_words_reach_nobody(tor: Tor, port: int, words: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(words)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(100):
            pass
    assert not tor.asked
