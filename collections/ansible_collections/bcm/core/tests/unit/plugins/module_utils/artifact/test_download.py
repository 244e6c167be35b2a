# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import datetime
import hashlib
import ipaddress
import os
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.bcm.core.plugins.module_utils._artifact import download
from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import (
    Downloader,
    DownloadError,
    side_by_side,
)
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError

CONTENT = bytes(range(256)) * 4096
DIGEST = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server(ThreadingHTTPServer):
    """Serves each path with the next of its answers, the last one again and again."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[dict[str, str]] = []
        self.hanging, self.ended = threading.Event(), threading.Event()

    def url(self, path: str, *answers: Answer) -> str:
        self.answers[path] = list(answers)
        return f"{self.scheme}://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, *args: Any) -> None:
        """A client that goes away is what some tests want."""

    def whole(self, request: BaseHTTPRequestHandler) -> None:
        """As a good server does: ranges, and a validator."""
        start = re.fullmatch(r"bytes=(\d+)-", request.headers["Range"] or "")
        offset = int(start[1]) if start and request.headers["If-Range"] == '"1"' else 0
        if offset >= len(CONTENT):
            _head(request, 416, {"Content-Range": f"bytes */{len(CONTENT)}", "Content-Length": "0"})
        elif offset:
            there = f"bytes {offset}-{len(CONTENT) - 1}/{len(CONTENT)}"
            _head(request, 206, {"Content-Range": there, "Content-Length": str(len(CONTENT) - offset), "ETag": '"1"'})
        else:
            _head(request, 200, {"Content-Length": str(len(CONTENT)), "ETag": '"1"'})
        request.wfile.write(CONTENT[offset:])

    def hang(self, request: BaseHTTPRequestHandler) -> None:
        """Half of it, and nothing more."""
        half(request)
        self.hanging.set()
        self.ended.wait(30)


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        answers = self.server.answers[self.path]
        self.server.asked.append(dict(self.headers))
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, *args: Any) -> None:
        pass


def _head(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()


def sends(body: bytes = b"", status: int = 200, **headers: str) -> Answer:
    """Exactly this; without a Content-Length, the end of the connection ends it."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _head(request, status, {name.replace("_", "-"): value for name, value in headers.items()})
        request.wfile.write(body)
        request.wfile.flush()

    return answer


#: promises all of it, sends half
half = sends(CONTENT[:HALF], Content_Length=str(len(CONTENT)), ETag='"1"')


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with serving(server):
        yield server
        server.ended.set()


@pytest.fixture
def tls_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """One whose certificate is trusted because SSL_CERT_FILE says so."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    both = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    both.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    monkeypatch.setenv("SSL_CERT_FILE", str(both))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    server = Server()
    server.scheme = "https"
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield server


class Socks(socketserver.ThreadingTCPServer):
    """A SOCKS5 proxy (RFC 1928, 1929) that knows one host for all names, and writes down what it is asked for."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _SocksHandler)
        self.target = target
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"socks5h://127.0.0.1:{self.server_address[1]}"


class _SocksHandler(socketserver.StreamRequestHandler):
    server: Socks

    def handle(self) -> None:
        def text() -> str:
            return self.rfile.read(self.rfile.read(1)[0]).decode()

        self.rfile.read(self.rfile.read(2)[1])
        self.wfile.write(b"\x05\x02")
        self.rfile.read(1)
        user, _unused = text(), text()
        self.wfile.write(b"\x01\x00")
        kind = self.rfile.read(4)[3]
        assert kind == 3, "the name was resolved before the proxy got it"
        self.server.asked.append((user, text()))
        self.rfile.read(2)
        with socket.create_connection(self.server.target) as upstream:
            self.wfile.write(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=_pump, args=(upstream, self.connection))
            back.start()
            _pump(self.connection, upstream)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def downloader(**fields: Any) -> Downloader:
    return Downloader(**{"connect_timeout": 1, "read_timeout": 0.3, "retries": 2, "pause": 0, **fields})


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    return tmp_path / DIGEST


def test_file_is_downloaded_whole_and_its_progress_is_reported(server: Server, partial: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    loader = downloader(progress=lambda *args: told.append(args))
    assert loader.large(server.url("/x/y.tar.gz?token=a", server.whole), partial, "sha256") == DIGEST
    assert partial.read_bytes() == CONTENT
    assert told[-1] == ("y.tar.gz", len(CONTENT), len(CONTENT))
    assert loader.large(server.url("/y", server.whole), partial, "sha512") == hashlib.sha512(CONTENT).hexdigest()
    assert server.asked[0]["Accept-Encoding"] == "identity"


def test_a_connection_that_is_cut_is_resumed(server: Server, partial: Path) -> None:
    lines: list[str] = []
    url = server.url("/y", half, server.whole)
    assert downloader(notify=lines.append).large(url, partial, "sha256") == DIGEST
    assert (server.asked[1]["Range"], server.asked[1]["If-Range"]) == (f"bytes={HALF}-", '"1"')
    assert lines == [f"y: cut off after {HALF} bytes; trying again"]


def test_a_download_of_another_run_is_resumed(server: Server, partial: Path) -> None:
    url = server.url("/y", half)
    with pytest.raises(DownloadError, match=rf"/y: cut off after {HALF} bytes, 1 times; run it again"):
        downloader(retries=0).large(url, partial, "sha256")
    assert partial.stat().st_size == HALF
    server.url("/y", server.whole)
    assert downloader().large(url, partial, "sha256") == DIGEST
    assert server.asked[-1]["Range"] == f"bytes={HALF}-"


def test_a_server_that_always_cuts_off_is_given_up(server: Server, partial: Path) -> None:
    with pytest.raises(DownloadError, match="cut off after"):
        downloader().large(server.url("/y", sends(CONTENT[:HALF], Content_Length="2000000")), partial, "sha256")
    assert len(server.asked) == 3


def test_each_step_forward_gives_new_patience(server: Server, partial: Path) -> None:
    def some(request: BaseHTTPRequestHandler) -> None:
        offset = int((request.headers["Range"] or "bytes=0-")[6:-1])
        there, left = f"bytes {offset}-{len(CONTENT) - 1}/{len(CONTENT)}", str(len(CONTENT) - offset)
        _head(request, 206 if offset else 200, {"Content-Range": there, "Content-Length": left, "ETag": '"1"'})
        request.wfile.write(CONTENT[offset : offset + 100_000])

    assert downloader(retries=1).large(server.url("/y", some), partial, "sha256") == DIGEST


@pytest.mark.parametrize(
    ("fault", "etag"),
    [
        ("ignores ranges", '"1"'),
        ("has another file now", '"2"'),
        ("has no validator", ""),
        ("has a weak validator", 'W/"1"'),
    ],
)
def test_a_download_that_cannot_be_resumed_starts_over(server: Server, partial: Path, fault: str, etag: str) -> None:
    first = sends(b"x" * HALF, Content_Length=str(len(CONTENT)), ETag=etag)
    again = sends(CONTENT, Content_Length=str(len(CONTENT)))
    url = server.url("/y", first, again if fault == "ignores ranges" else server.whole)
    assert downloader().large(url, partial, "sha256") == DIGEST
    assert ["Range" in asked for asked in server.asked] == [False, etag.startswith('"')]


def test_a_date_is_a_validator_too(server: Server, partial: Path) -> None:
    date = "Mon, 01 Jun 2026 10:00:00 GMT"
    first = sends(CONTENT[:HALF], Content_Length=str(len(CONTENT)), Last_Modified=date)
    assert downloader().large(server.url("/y", first, server.whole), partial, "sha256") == DIGEST
    assert server.asked[1]["If-Range"] == date


def test_a_range_that_is_shorter_than_it_says_is_gone_on_with(server: Server, partial: Path) -> None:
    there = f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}"
    short = sends(CONTENT[HALF : HALF + 10], 206, Content_Range=there, Content_Length="10")
    assert downloader().large(server.url("/y", half, short, server.whole), partial, "sha256") == DIGEST


@pytest.mark.parametrize("there", ["bytes 0-9/1048576", "bytes 1-9/1048576", "", "nonsense"])
def test_a_range_that_was_not_asked_for_is_not_taken(server: Server, partial: Path, there: str) -> None:
    url = server.url("/y", half, sends(CONTENT, 206, Content_Range=there), server.whole)
    assert downloader().large(url, partial, "sha256") == DIGEST


def test_a_partial_file_of_another_url_is_not_resumed(server: Server, partial: Path) -> None:
    with pytest.raises(DownloadError):
        downloader(retries=0).large(server.url("/other", half), partial, "sha256")
    assert downloader().large(server.url("/y", server.whole), partial, "sha256") == DIGEST
    assert "Range" not in server.asked[-1]


def test_a_partial_file_that_is_whole_is_only_asked_for(server: Server, partial: Path) -> None:
    url = server.url("/y", server.whole)
    for _unused in range(2):
        assert downloader().large(url, partial, "sha256") == DIGEST
    with open(partial, "ab") as file:
        file.write(b"more")
    assert downloader().large(url, partial, "sha256") == DIGEST
    assert [asked.get("Range") for asked in server.asked] == [None, "bytes=1048576-", "bytes=1048580-", None]


def test_a_damaged_state_file_starts_over(server: Server, partial: Path) -> None:
    url = server.url("/y", server.whole)
    downloader().large(url, partial, "sha256")
    partial.with_name(f"{DIGEST}.state").write_text('{"url": ')
    partial.write_bytes(b"x" * 100)
    assert downloader().large(url, partial, "sha256") == DIGEST


@pytest.mark.parametrize("before", ["the answer", "the end"])
def test_a_server_that_hangs_is_given_up(server: Server, partial: Path, before: str) -> None:
    def silent(request: BaseHTTPRequestHandler) -> None:
        server.ended.wait(30)

    answer = server.hang if before == "the end" else silent
    with pytest.raises(DownloadError, match=r"/y: the server sent nothing for 0\.3 s, 3 times"):
        downloader().large(server.url("/y", answer), partial, "sha256")


def test_a_busy_server_is_asked_again(server: Server) -> None:
    url = server.url("/y", sends(status=503), sends(status=429), sends(b"content"))
    assert downloader().small(url) == b"content"
    with pytest.raises(DownloadError, match="the server answers 502 Bad Gateway, 3 times"):
        downloader().small(server.url("/z", sends(status=502)))


def test_a_missing_file_is_not_asked_for_again(server: Server) -> None:
    with pytest.raises(DownloadError, match="/y: the server answers 404 Not Found; correct the URL"):
        downloader().small(server.url("/y", sends(status=404)))
    assert len(server.asked) == 1


@pytest.mark.parametrize("length", [{}, {"Content_Length": "1048576"}], ids=["not told", "told"])
def test_a_too_long_file_is_refused(server: Server, partial: Path, length: dict[str, Any]) -> None:
    url = server.url("/y", sends(CONTENT, **length))
    with pytest.raises(DownloadError, match="/y is longer than 1048575 bytes: refused"):
        downloader().small(url, limit=len(CONTENT) - 1)
    with pytest.raises(DownloadError, match="/y is longer than 1000 bytes: refused"):
        downloader().large(url, partial, "sha256", limit=1000)
    assert partial.stat().st_size == 0
    assert len(downloader().small(url, limit=len(CONTENT))) == len(CONTENT)


def test_download_with_too_large_a_length_is_refused_at_once(server: Server, partial: Path) -> None:
    url = server.url("/y", sends(Content_Length=str((4 << 30) + 1)))
    with pytest.raises(DownloadError, match=f"/y is longer than {4 << 30} bytes: refused"):
        downloader().large(url, partial, "sha256")


@pytest.mark.parametrize("length", [str(HALF), "²"], ids=["too short", "no number"])
def test_a_wrong_length_is_found_at_the_latest_by_the_digest(server: Server, tmp_path: Path, length: str) -> None:
    store = ContentStore(tmp_path)
    with store.lock(DIGEST):
        partial = store.partial(DIGEST)
        found = downloader().large(server.url("/y", sends(CONTENT[:HALF], Content_Length=length)), partial, "sha256")
        with pytest.raises(BcmError, match="y has the sha256 digest"):
            store.commit(partial, "sha256", DIGEST, "y", found)
    assert store.get("sha256", DIGEST) is None


def test_unrequested_encoding_is_left_unchanged(server: Server) -> None:
    assert downloader().small(server.url("/y", sends(b"\x1f\x8bxyz", Content_Encoding="gzip"))) == b"\x1f\x8bxyz"


def test_redirects_are_followed(server: Server) -> None:
    url = server.url("/a", sends(status=302, Location="/b"))
    server.url("/b", sends(status=308, Location=server.url("/c", sends(b"content"))))
    assert downloader().small(url) == b"content"


def test_redirects_without_end_are_given_up(server: Server) -> None:
    with pytest.raises(DownloadError, match="/a redirects more than 5 times"):
        downloader().small(server.url("/a", sends(status=302, Location="/a")))
    assert len(server.asked) == 6


def test_a_redirect_out_of_tls_is_not_followed(server: Server, tls_server: Server) -> None:
    assert downloader().small(tls_server.url("/a", sends(b"content"))) == b"content"
    plain = server.url("/b", sends(b"content"))
    with pytest.raises(DownloadError, match="/a redirects to http://.*/b, which is not encrypted: it is not followed"):
        downloader().small(tls_server.url("/a", sends(status=302, Location=plain)))
    assert server.asked == []


def test_a_redirect_into_tls_is_followed_but_not_back(server: Server, tls_server: Server) -> None:
    into = server.url("/a", sends(status=302, Location=tls_server.url("/b", sends(b"content"))))
    assert downloader().small(into) == b"content"
    tls_server.url("/b", sends(status=302, Location=server.url("/c", sends(b"content"))))
    with pytest.raises(DownloadError, match="not encrypted"):
        downloader().small(into)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[nonsense/"])
def test_a_redirect_to_something_else_is_not_followed(server: Server, target: str) -> None:
    with pytest.raises(DownloadError):
        downloader().small(server.url("/a", sends(status=302, Location=target)))
    assert len(server.asked) == 1


def test_certificate_without_a_trusted_issuer_is_refused(tls_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(
        DownloadError, match="/a: no trust in the server's TLS: self.signed certificate; if the machine"
    ):
        downloader().small(tls_server.url("/a", sends(b"content")))
    assert tls_server.asked == []


def test_a_bundle_that_is_not_there_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/bundle.pem")
    with pytest.raises(DownloadError, match="/nonexistent/bundle.pem"):
        downloader().small("https://127.0.0.1:1/a")


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@[nonsense/a",
        "nonsense",
        "file:///etc/passwd",
        "ftp://me:secret@x/y",
        "http://me:secret@x:99999/",
    ],
)
def test_an_invalid_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(DownloadError, match="is not a URL .*; correct it") as caught:
        downloader().small(url)
    assert "secret" not in str(caught.value)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_message_about_a_missing_server_hides_the_password() -> None:
    with pytest.raises(DownloadError, match=r"^http://127\.0\.0\.1:\d+/a: no connection: Connection refused, 3 times;"):
        downloader().small(f"http://me:secret@127.0.0.1:{closed_port()}/a?token=secret")


def test_the_environment_s_proxies_are_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{closed_port()}")
    assert downloader().small(server.url("/a", sends(b"content"))) == b"content"


def test_all_goes_through_the_proxy_a_circuit_for_each_host(server: Server, partial: Path) -> None:
    server.url("/a", sends(status=302, Location="http://b.invalid/b"))
    server.url("/b", server.whole)
    with Socks(("127.0.0.1", server.server_port)) as socks, serving(socks):
        assert downloader(proxy=socks.url).large("http://a.invalid/a", partial, "sha256") == DIGEST
        assert socks.asked == [("a.invalid", "a.invalid"), ("b.invalid", "b.invalid")]


def test_a_proxy_that_does_not_answer_is_named_at_once() -> None:
    port = closed_port()
    lines: list[str] = []
    with pytest.raises(DownloadError, match=f"^Tor's SOCKS port at 127.0.0.1:{port} does not answer: start tor on"):
        downloader(proxy=f"socks5h://127.0.0.1:{port}", notify=lines.append).small("http://a.invalid/a")
    assert lines == []


def test_an_address_of_the_own_network_is_asked_directly(server: Server) -> None:
    loader = downloader(proxy=f"socks5h://127.0.0.1:{closed_port()}")
    assert loader.small(server.url("/a", sends(b"content"))) == b"content"


def test_a_proxy_that_reaches_nothing_is_another_matter() -> None:
    with Socks(("127.0.0.1", closed_port())) as socks, serving(socks):
        socks.handle_error = lambda *args: None  # type: ignore[method-assign]
        with pytest.raises(DownloadError, match="^http://a.invalid/a: no connection: "):
            downloader(proxy=socks.url).small("http://a.invalid/a")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9050", "127.0.0.1:9050", "socks5h://x", "socks5h://x:y", ""])
def test_a_proxy_that_would_resolve_names_here_or_is_none_is_refused(proxy: str) -> None:
    with pytest.raises(DownloadError, match="^bcm_artifact_proxy is .*: write socks5h://HOST:PORT"):
        Downloader(proxy=proxy)


_FULL = """
import sys
from pathlib import Path
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import Downloader, DownloadError
try:
    Downloader(pause=0).large(sys.argv[1], Path(sys.argv[2], "partial"), "sha256")
except DownloadError as error:
    print(error, Path(sys.argv[2], "partial").stat().st_size)
"""


@pytest.mark.parametrize("length", ["told", "not told"])
def test_full_disk_is_reported_with_the_missing_space(server: Server, tmp_path: Path, length: str) -> None:
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*own, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs user namespaces")
    url = server.url("/y", server.whole if length == "told" else sends(CONTENT))
    mounted = 'mount -t tmpfs -o size=512k none "$4" && exec "$1" -c "$2" "$3" "$4"'
    done = subprocess.run(
        [*own, "sh", "-c", mounted, "sh", sys.executable, _FULL, url, str(tmp_path)],
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    if length == "told":
        assert re.match(rf"No room in {tmp_path} for y: 5\d{{5}} bytes are missing; make room there, or", done.stdout)
        assert done.stdout.endswith(" 0\n")
    else:
        assert done.stdout.startswith(f"No room in {tmp_path} for y; make room there, or")


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"^{tmp_path}/none/x cannot be written: No such file"):
        downloader().large(server.url("/y", server.whole), tmp_path / "none/x", "sha256")


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


_RUN = """
import sys
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import Downloader, side_by_side
from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore
url, root, digest = sys.argv[1:]
store = ContentStore(root)

def work():
    with store.lock(digest, lambda: print("waiting", flush=True)):
        if store.get("sha256", digest) is None:
            partial = store.partial(digest)
            store.commit(partial, "sha256", digest, "y", Downloader().large(url, partial, "sha256"))
            print("loaded", flush=True)

side_by_side([work])
"""


def _start(url: str, root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, url, str(root), DIGEST],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_runs_on_one_store_download_once(server: Server, tmp_path: Path) -> None:
    go_on = threading.Event()

    def slowly(request: BaseHTTPRequestHandler) -> None:
        server.hanging.set()
        go_on.wait(30)
        server.whole(request)

    url = server.url("/y", slowly)
    with _start(url, tmp_path) as first:
        assert server.hanging.wait(120)
        with _start(url, tmp_path) as second:
            assert second.stdout and second.stdout.readline() == "waiting\n"
            go_on.set()
            assert (first.communicate(timeout=120)[0], second.communicate(timeout=120)[0]) == ("loaded\n", "")
    assert len(server.asked) == 1
    assert ContentStore(tmp_path).check("sha256", DIGEST)
    assert os.listdir(tmp_path / "partial") == []


def test_ctrl_c_ends_a_download_at_once_and_the_next_run_goes_on(server: Server, tmp_path: Path) -> None:
    url = server.url("/y", server.hang)
    partial = tmp_path / "partial" / DIGEST
    with _start(url, tmp_path) as run:
        assert server.hanging.wait(120)
        while not partial.exists() or partial.stat().st_size < HALF:
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=120)
        assert run.returncode == -signal.SIGINT
    assert ContentStore(tmp_path).get("sha256", DIGEST) is None
    server.url("/y", server.whole)
    with _start(url, tmp_path) as run:
        assert run.communicate(timeout=120)[0] == "loaded\n"
    assert server.asked[-1]["Range"] == f"bytes={HALF}-"
    assert ContentStore(tmp_path).check("sha256", DIGEST)


def test_side_by_side_is_side_by_side_and_in_order() -> None:
    meeting = threading.Barrier(4)

    def item(number: int) -> Callable[[], int]:
        return lambda: meeting.wait(10) * 0 + number

    assert side_by_side([item(number) for number in range(8)]) == list(range(8))
    assert side_by_side([]) == []


def test_an_error_side_by_side_lets_the_others_end() -> None:
    done: list[int] = []

    def fails() -> None:
        raise DownloadError("no")

    with pytest.raises(DownloadError, match="no"):
        side_by_side([fails, *(lambda: done.append(1) for _unused in range(9))])
    assert len(done) == 9


def test_a_reachable_file_is_requested_once_and_not_read(server: Server) -> None:
    assert downloader().out_of_reach(server.url("/x", server.hang)) is None
    assert downloader().out_of_reach(server.url("/x", sends(status=401, Content_Length="0"))) is None
    target = server.url("/x", sends(b"z"))
    assert downloader().out_of_reach(server.url("/y", sends(status=302, Location=target))) is None
    assert len(server.asked) == 4
    server.ended.set()


@pytest.mark.parametrize(
    ("status", "fault"),
    [(404, "the server answers 404 Not Found"), (503, "the server answers 503 Service Unavailable")],
)
def test_a_refused_file_is_out_of_reach(server: Server, status: int, fault: str) -> None:
    url = server.url("/x", sends(status=status, Content_Length="0"))
    assert downloader().out_of_reach(url) == f"127.0.0.1: {fault}"
    assert len(server.asked) == 1


def test_a_silent_server_is_out_of_reach_after_one_try(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said = downloader().out_of_reach(f"http://me:secret@127.0.0.1:{closed_port()}/x")
    assert said == "127.0.0.1: no connection: Connection refused"
    monkeypatch.setattr(download, "_TRY", 0.2)
    silent = server.url("/x", lambda request: server.ended.wait(30) and None)
    assert downloader().out_of_reach(silent) == "127.0.0.1: no answer within 0.2 s"
    server.ended.set()
