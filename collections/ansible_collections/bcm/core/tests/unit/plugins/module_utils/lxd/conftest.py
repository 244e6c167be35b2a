# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers for the client to talk to."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.bcm.core.plugins.module_utils._ca import pki

_NOT_FOUND: Any = (404, {"type": "error", "error_code": 404, "error": "Not found"}, {})


class Server:
    """A server of the API with fixed answers; ``requests`` holds what it was asked: method, path, query, body."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any, dict[str, str]]] = {}
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []

    def answers_with(self, method: str, path: str, metadata: Any, **headers: str) -> None:
        self.answers[method, path] = (200, {"type": "sync", "metadata": metadata}, headers)

    def starts(self, method: str, path: str, operation: Any) -> None:
        self.answers[method, path] = (202, {"type": "async", "metadata": operation}, {})

    def refuses(self, method: str, path: str, status: int, error: str) -> None:
        self.answers[method, path] = (status, {"type": "error", "error_code": status, "error": error}, {})

    def handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                pass

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path, _mark, query = self.path.partition("?")
                server.requests.append((self.command, path, dict(p.split("=") for p in query.split("&") if p), body))
                status, content, headers = server.answers.get((self.command, path), _NOT_FOUND)
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                for key, value in {**headers, "Content-Length": str(len(text))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = answer

        return Handler


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class _TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler], context: ssl.SSLContext) -> None:
        self.context = context
        super().__init__(("127.0.0.1", 0), handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        raw, address = super().get_request()
        return self.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that does not trust us hangs up, which is what is tested


@contextmanager
def _serving(listener: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.fixture
def unix_server(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    """A server with no answers yet, and the path of its socket."""
    server, path = Server(), str(tmp_path / "unix.socket")
    with _serving(_UnixServer(path, server.handler())):
        yield server, path


#: Takes a certificate and its key.
TlsServer = Callable[[Path, Path], AbstractContextManager[tuple[Server, str]]]


@pytest.fixture
def tls_server() -> TlsServer:
    """Serves with a certificate and its key; gives the server and its https endpoint."""

    @contextmanager
    def serve(certificate: Path, key: Path) -> Iterator[tuple[Server, str]]:
        server = Server()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        listener = _TcpServer(server.handler(), context)
        with _serving(listener):
            yield server, f"https://127.0.0.1:{listener.server_address[1]}"

    return serve


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Self-signed certificates and their keys."""
    folder = tmp_path_factory.mktemp("tls")
    return {name: _self_signed(folder, name) for name in ("server", "other", "client")}


def _self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate.public_bytes(pem))
    paths[1].write_bytes(key.private_bytes(pem, form, plain))
    return paths


class Issue:
    """Files of certificates below ``root``; ``other.crt`` beside it is another root with the same name."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root.crt"
        self._begin = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
        for path in (folder / "other.crt", self.root):
            self._key = pki.new_key()
            self._root = pki.sign_root("root", self._key, self._begin, self._begin + timedelta(days=9))
            path.write_text(pki.to_pem(self._root), encoding="ascii")

    def __call__(
        self, name: str, *, address: str = "", days: int = 1, through_intermediate: bool = False
    ) -> tuple[Path, Path]:
        """A chain of a server at an address, or of a client, which ends in so many days from now; and its key."""
        issuer, signing, chain = self._root, self._key, ""
        if through_intermediate:
            signing, allowed = pki.new_key(), pki.parse_scope(["bcm"], ["127.0.0.0/8"])
            end = self._root.not_valid_after_utc
            public = signing.public_key()
            issuer = pki.sign_intermediate("between", public, self._root, self._key, allowed, self._begin, end)
            chain = pki.to_pem(issuer)
        key, names, usage = pki.new_key(), [address] if address else [], ["server" if address else "client"]
        end = self._begin + timedelta(days=3 + days)
        made = pki.sign_leaf(name, names, usage, key.public_key(), issuer, signing, self._begin, end)
        paths = self.root.with_name(f"{name}.crt"), self.root.with_name(f"{name}.key")
        paths[0].write_text(pki.to_pem(made) + chain, encoding="ascii")
        paths[1].write_text(pki.key_pem(key), encoding="ascii")
        return paths


@pytest.fixture
def issue(tmp_path: Path) -> Issue:
    return Issue(tmp_path)
