# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import copies
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Endpoint, Fault

SERVER = "/usr/lib/openssh/sftp-server"
# the example of AWS's documentation
KEYS = {
    "access_key": "AKIAIOSFODNN7EXAMPLE",
    "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "region": "us-east-1",
}
MAY = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("query", "signature"),
    [
        ("lifecycle=", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)
def test_requests_are_signed_as_the_documentation_of_aws_says(query: str, signature: str) -> None:
    headers = copies.signed_headers(KEYS, "GET", "examplebucket.s3.amazonaws.com", "/", query, b"", MAY)
    assert headers["Authorization"].endswith(f"Signature={signature}")


class Store(BaseHTTPRequestHandler):
    """A double of a store that speaks S3: it checks signatures with the same code, which the test above proves."""

    kept: dict[str, bytes]
    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _content(self) -> bytes | None:
        """The body, if the signature fits it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _mark, query = self.path.partition("?")
        moment = datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        wanted = copies.signed_headers(KEYS, self.command, self.headers["Host"], path, query, body, moment)
        if self.headers["Authorization"] == wanted["Authorization"]:
            return body
        self._answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        return None

    def do_PUT(self) -> None:
        body = self._content()
        if body is not None:
            self.kept[self.path] = body
            self._answer(200)

    def do_GET(self) -> None:
        if self._content() is None:
            return
        if "?" in self.path:
            keys = "".join(f"<Key>{unquote(path).removeprefix('/copies/')}</Key>" for path in self.kept)
            self._answer(200, f"<ListBucketResult>{keys}</ListBucketResult>".encode())
        elif self.path in self.kept:
            self._answer(200, self.kept[self.path])
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def log_message(self, *_args: Any) -> None:
        """Be quiet."""


class Proxy:
    """A SOCKS proxy that leads everything to one port, and remembers who asked for what."""

    def __init__(self, port: int, status: int = 0) -> None:
        self._port = port
        self._status = status
        self.asked: list[tuple[str, str]] = []
        self._servers: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.place = Endpoint("127.0.0.1", self._listening.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _address = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._hand_on, args=(client,), daemon=True).start()

    def _hand_on(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as stream:
            assert stream.read(3) == b"\x05\x01\x02"
            client.sendall(b"\x05\x02")
            size = stream.read(2)[1]
            user = stream.read(size).decode()
            stream.read(stream.read(1)[0])
            client.sendall(b"\x01\x00")
            size = stream.read(5)[4]
            host, port = stream.read(size).decode(), int.from_bytes(stream.read(2), "big")
            self.asked.append((user, f"{host}:{port}"))
            client.sendall(bytes([5, self._status, 0, 1, 0, 0, 0, 0, 0, 0]))
            if self._status:
                return
            with socket.create_connection(("127.0.0.1", self._port)) as server:
                self._servers.append(server)
                threading.Thread(target=_pass_on, args=(client, server), daemon=True).start()
                _pass_on(server, client)

    def end_connections(self) -> None:
        while self._servers:
            with contextlib.suppress(OSError):  # it has ended
                self._servers.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            sink.sendall(data)


@pytest.fixture
def store() -> Iterator[ThreadingHTTPServer]:
    Store.kept = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(store: ThreadingHTTPServer) -> Iterator[Proxy]:
    found = Proxy(store.server_port)
    yield found
    found.close()


def s3(proxy: Proxy, **changes: str) -> copies.S3:
    settings = {**KEYS, "endpoint": "http://store.onion:9000", "bucket": "copies", "prefix": "a b/", "ca": ""}
    return copies.S3("store", {**settings, **changes}, proxy.place)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "here/first-regtest-lnd-20261129T120000.000001Z.age"
    path.parent.mkdir()
    path.write_bytes(bytes(range(256)))
    return path


def test_bucket_gives_back_what_it_got(proxy: Proxy, copy: Path) -> None:
    bucket = s3(proxy)
    bucket.check()
    bucket.put(copy)
    assert bucket.names("first-regtest-lnd-") == [copy.name]
    assert bucket.get(copy.name) == copy.read_bytes()
    # the first request takes the longest way: to a rendezvous
    assert proxy.asked == [("store", "store.onion:9000")]


def test_bucket_that_ended_the_connection_is_asked_again(proxy: Proxy, copy: Path) -> None:
    bucket = s3(proxy)
    bucket.check()
    proxy.end_connections()
    bucket.put(copy)
    assert bucket.get(copy.name) == copy.read_bytes()
    assert len(proxy.asked) == 2


def test_bucket_that_refuses_says_why(proxy: Proxy, copy: Path) -> None:
    with pytest.raises(Fault, match=r"store.onion:9000 refuses with status 403 \(SignatureDoesNotMatch\)"):
        s3(proxy, secret_key="another").put(copy)
    with pytest.raises(Fault, match=r"status 404 \(NoSuchKey\)"):
        s3(proxy).get("x")


@dataclass(frozen=True)
class Authority:
    """A root, and a context of a server with a certificate below it."""

    root: str
    context: ssl.SSLContext

    @classmethod
    def make(cls, folder: Path, host: str) -> Authority:
        folder.mkdir()
        subject = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        new = ["openssl", "req", "-x509", *subject]
        root, key, certificate = folder / "root.pem", folder / "key.pem", folder / "certificate.pem"
        _run(*new, "-subj", "/CN=A root", "-keyout", f"{folder}/root.key", "-out", root)
        names = ["-subj", "/CN=store", "-addext", f"subjectAltName=DNS:{host}"]
        _run(*new, *names, "-CA", root, "-CAkey", f"{folder}/root.key", "-keyout", key, "-out", certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return cls(root.read_text(), context)


def _run(*argv: object) -> None:
    subprocess.run([*map(str, argv)], capture_output=True, check=True)


@pytest.fixture
def authority(store: ThreadingHTTPServer, tmp_path: Path) -> Authority:
    """The one of the store, which speaks TLS then."""
    made = Authority.make(tmp_path / "authority", "s3.example.org")
    store.socket = made.context.wrap_socket(store.socket, server_side=True)
    return made


def test_store_with_tls_is_verified_by_an_authority_of_its_own(
    proxy: Proxy, authority: Authority, copy: Path, tmp_path: Path
) -> None:
    bucket = s3(proxy, endpoint="https://s3.example.org", ca=authority.root)
    bucket.put(copy)
    assert bucket.get(copy.name) == copy.read_bytes()
    assert proxy.asked == [("store", "s3.example.org:443")]
    other = Authority.make(tmp_path / "other", "s3.example.org")
    with pytest.raises(Fault, match="CERTIFICATE_VERIFY_FAILED"):
        s3(proxy, endpoint="https://s3.example.org", ca=other.root).check()
    with pytest.raises(Fault, match="Hostname mismatch"):
        s3(proxy, endpoint="https://elsewhere.example.org", ca=authority.root).check()


def test_store_without_an_authority_is_verified_by_public_roots(
    proxy: Proxy, authority: Authority, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = s3(proxy, endpoint="https://s3.example.org")
    (tmp_path / "roots").mkdir()
    other = Authority.make(tmp_path / "other", "s3.example.org")
    (tmp_path / "roots/Other.crt").write_text(other.root)
    monkeypatch.setattr(copies, "_PUBLIC_ROOTS", tmp_path / "roots")
    with pytest.raises(Fault, match="CERTIFICATE_VERIFY_FAILED"):
        bucket.put(copy)
    (tmp_path / "roots/Root.crt").write_text(authority.root)
    bucket = s3(proxy, endpoint="https://s3.example.org")
    bucket.put(copy)
    assert bucket.names("first-regtest-lnd-") == [copy.name]


@pytest.mark.parametrize(
    ("status", "fault"), [(0xF0, "there is no such onion service, or it is down"), (5, "the connection was refused")]
)
def test_what_tor_says_is_shown(store: ThreadingHTTPServer, status: int, fault: str) -> None:
    proxy = Proxy(store.server_port, status)
    with pytest.raises(Fault, match=f"tor cannot reach store.onion:9000: {fault}"):
        s3(proxy).check()
    proxy.close()
    with pytest.raises(Fault, match="tor does not answer at 127.0.0.1:"):
        s3(proxy).check()


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[copies.Sftp]:
    """With the real server, without SSH between them."""
    folder = tmp_path / "there"
    found = copies.Sftp("box", {"path": str(folder), "user": "copies", "host": "box.onion", "type": "ssh"})
    found._command = [SERVER]
    yield found
    found.close()


needs_sftp = pytest.mark.skipif(not Path(SERVER).exists(), reason="no sftp-server here")


@needs_sftp
@pytest.mark.parametrize("size", [256, 3 * 2**15, 20 * 2**15 + 1])
def test_folder_gives_back_what_it_got(sftp: copies.Sftp, copy: Path, tmp_path: Path, size: int) -> None:
    copy.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    sftp.check()
    process = sftp._process
    sftp.put(copy)
    assert (tmp_path / "there" / copy.name).read_bytes() == copy.read_bytes()
    assert sftp.names("first-regtest-lnd-") == [copy.name]
    assert sftp.names("other-") == []
    assert sftp.get(copy.name) == copy.read_bytes()
    assert sftp._process is process
    assert [path.name for path in (tmp_path / "there").iterdir()] == [copy.name]


@needs_sftp
def test_copy_that_another_attempt_left_is_replaced(sftp: copies.Sftp, copy: Path, tmp_path: Path) -> None:
    for replaces in (True, False):
        sftp.check()
        sftp._replaces = replaces
        (tmp_path / "there" / f"{copy.name}.new").write_bytes(b"of a longer one, that was cut off" * 100)
        sftp.put(copy)
        assert (tmp_path / "there" / copy.name).read_bytes() == copy.read_bytes()
        (tmp_path / "there" / copy.name).unlink()


@needs_sftp
def test_server_that_fails_says_why_and_is_connected_to_again(sftp: copies.Sftp, copy: Path, tmp_path: Path) -> None:
    with pytest.raises(Fault, match="it refuses: No such file"):
        sftp.get("nothing.age")
    sftp.put(copy)
    assert sftp._process is not None
    sftp._process.kill()
    sftp._process.wait()
    sftp.put(copy)
    sftp.close()
    sftp._command = ["sh", "-c", "exec /nonexistent"]
    with pytest.raises(Fault, match="nonexistent"):
        sftp.put(copy)


@needs_sftp
def test_copy_that_is_not_whole_has_not_its_name(sftp: copies.Sftp, copy: Path, tmp_path: Path) -> None:
    sftp._command = ["sh", "-c", f"ulimit -f 0; exec {SERVER}"]
    with pytest.raises(Fault):
        sftp.put(copy)
    assert copy.name not in [path.name for path in (tmp_path / "there").iterdir()]


@pytest.mark.parametrize("said", ["Welcome to this server!", "printf '\\0\\0\\0\\1\\2'; cat", "exit 3"])
def test_server_that_speaks_something_else_is_refused(sftp: copies.Sftp, said: str) -> None:
    sftp._command = ["sh", "-c", f"echo {said}" if said.startswith("Welcome") else said]
    with pytest.raises(Fault):
        sftp.check()
    assert sftp._process is None


def test_password_is_never_an_argument() -> None:
    found = copies.Sftp("box", {"path": ".", "user": "copies", "host": "box.onion", "type": "ssh"})
    assert "StrictHostKeyChecking=yes" in found._command
    assert found._command[-3:] == ["-s", "copies@box.onion", "sftp"]


@pytest.mark.parametrize(
    ("names", "newest"), [([], None), (["b-1"], None), (["a-1", "a-3", "a-2", "b-9"], "a-3"), (["a-1", "a-1+"], "a-1+")]
)
def test_the_last_of_equal_beginnings_is_the_newest(names: list[str], newest: str | None) -> None:
    assert copies.newest(names, "a-") == newest
