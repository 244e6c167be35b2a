# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pysequoia import Cert, Tsk

from ansible_collections.bcm.core.plugins.module_utils._artifact.key_sources import Keys, wkd_urls
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError

URL = "https://keys.example.org/{fingerprint}.asc"
HKP = "hkps://keyserver.example.org"
MAIL = "Joe.Doe@Example.ORG"
HASHED = "iy9q119eutrkn8s1mk4r39qejnbu3n5q"  # of the draft's example
ADVANCED = f"https://openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/{HASHED}?l=Joe.Doe"
DIRECT = f"https://example.org/.well-known/openpgpkey/hu/{HASHED}?l=Joe.Doe"


class Web:
    """A server that has ``pages``, by URL, and remembers what it was asked; ``get`` gets all hosts from it."""

    def __init__(self) -> None:
        web = self
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = f"https:/{self.path}"
                web.asked.append(url)
                page = web.pages.get(url)
                self.send_response(404 if page is None else 200)
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def get(self, url: str) -> bytes:
        local = url.replace("https://", f"http://127.0.0.1:{self.server.server_port}/")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(local, timeout=10) as answer:
                return bytes(answer.read())
        except urllib.error.URLError as error:
            raise BcmError(f"{url}: {error}") from None


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    thread = threading.Thread(target=web.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield web
    web.server.shutdown()
    thread.join()
    web.server.server_close()


@pytest.fixture(scope="module")
def tsk() -> Tsk:
    return Tsk.generate("Joe Doe <joe.doe@example.org>")


@pytest.fixture(scope="module")
def cert(tsk: Tsk) -> Cert:
    return tsk.extract_certificate()


@pytest.fixture(scope="module")
def other() -> Cert:
    return Tsk.generate("other").extract_certificate()


def fingerprint(cert: Cert) -> str:
    return cert.fingerprint.upper()


def hkp(cert: Cert) -> str:
    return f"https://keyserver.example.org/pks/lookup?op=get&options=mr&search=0x{fingerprint(cert)}"


def revoked(tsk: Tsk) -> Cert:
    cert = tsk.extract_certificate()
    return Cert.from_bytes(bytes(cert) + bytes(cert.revoke(tsk.certifier())))


def test_a_folder_is_read_whatever_the_files_are_called(web: Web, cert: Cert, other: Cert, tmp_path: Path) -> None:
    (tmp_path / f"{fingerprint(cert)}.asc").write_text(str(other))
    (tmp_path / "ring.gpg").write_bytes(bytes(other) + bytes(cert))
    (tmp_path / "broken.pgp").write_bytes(b"<html>")
    (tmp_path / "SHA256SUMS.asc").write_text("-----BEGIN PGP SIGNATURE-----\n")
    (tmp_path / "notes.txt").write_bytes(b"not a key")
    keys = Keys([str(tmp_path), URL], web.get)
    assert keys.find(fingerprint(cert)) == bytes(cert)
    assert keys.find(fingerprint(other)) == bytes(other)
    assert web.asked == []
    (failure,) = keys.failures
    assert failure.startswith(f"{tmp_path}/broken.pgp is no OpenPGP key: ")
    assert "\n" not in failure


def test_a_folder_that_is_not_there(web: Web, cert: Cert, tmp_path: Path) -> None:
    web.pages[URL.replace("{fingerprint}", fingerprint(cert))] = bytes(cert)
    keys = Keys([str(tmp_path / "none"), URL], web.get)
    assert keys.find(fingerprint(cert)) == bytes(cert)
    assert keys.failures == [f"{tmp_path}/none cannot be read: No such file or directory"]


def test_a_url_a_key_server_and_a_web_key_directory(web: Web, cert: Cert) -> None:
    url = URL.replace("{fingerprint}", fingerprint(cert))
    for source, page in (URL, url), (HKP, hkp(cert)), (f"{HKP}/", hkp(cert)), ("wkd", ADVANCED):
        web.pages, web.asked = {page: str(cert).encode()}, []
        keys = Keys([source], web.get, {fingerprint(cert): MAIL})
        assert keys.find(fingerprint(cert)) == keys.find(fingerprint(cert)) == bytes(cert)
        assert (web.asked, keys.failures) == ([page], [])


def test_a_web_key_directory_is_asked_both_ways(web: Web, cert: Cert, other: Cert) -> None:
    keys = Keys(["wkd"], web.get, {fingerprint(cert): MAIL})
    assert keys.find(fingerprint(other)) is None
    assert web.asked == []
    web.pages[DIRECT] = bytes(other) + bytes(cert)
    assert keys.find(fingerprint(cert)) == bytes(cert)
    assert web.asked == [ADVANCED, DIRECT]
    assert wkd_urls("a+b/c@example.org")[1].endswith("?l=a%2Bb%2Fc")


def test_sources_are_asked_in_turn_until_one_has_it(web: Web, cert: Cert, other: Cert, tmp_path: Path) -> None:
    url = URL.replace("{fingerprint}", fingerprint(cert))
    web.pages = {url: bytes(other), hkp(cert): bytes(cert)}
    keys = Keys([str(tmp_path), URL, HKP, "wkd"], web.get, {fingerprint(cert): MAIL})
    assert keys.find(fingerprint(cert)) == bytes(cert)
    assert web.asked == [url, hkp(cert)]
    assert keys.failures == [f"{url} has another key than {fingerprint(cert)}"]


def test_a_missing_key_is_reported(web: Web, cert: Cert, other: Cert) -> None:
    web.pages = {ADVANCED: bytes(other), hkp(cert): b"<html>"}
    keys = Keys([URL, HKP, "wkd"], web.get, {fingerprint(cert): MAIL})
    assert keys.find(fingerprint(cert)) is None
    assert len(keys.failures) == 3


def test_an_expired_key_is_refreshed(web: Web, tsk: Tsk, tmp_path: Path) -> None:
    cert, now = tsk.extract_certificate(), datetime.now(UTC)
    expired = cert.set_expiration(now, tsk.certifier())
    while datetime.now(UTC) < now + timedelta(seconds=1):
        time.sleep(0.01)  # the newest signature says when a key expires, and they have whole seconds only
    refreshed = expired.set_expiration(now + timedelta(days=1), tsk.certifier())
    assert expired.expiration is not None
    assert expired.expiration <= now
    (tmp_path / "joe.asc").write_text(str(expired))
    keys = Keys([str(tmp_path), HKP, URL], web.get)
    assert keys.find(fingerprint(expired)) == bytes(expired)
    assert len(keys.failures) == 2

    web.pages[hkp(expired)] = bytes(refreshed)
    web.asked.clear()
    found = Keys([str(tmp_path), HKP, URL], web.get).find(fingerprint(expired))
    expiration = Cert.from_bytes(found or b"").expiration
    assert expiration is not None
    assert expiration > datetime.now(UTC)
    assert web.asked == [hkp(expired)]


def test_a_revocation_wins(web: Web, tsk: Tsk, cert: Cert, tmp_path: Path) -> None:
    (tmp_path / "1.asc").write_text(str(revoked(tsk)))
    (tmp_path / "2.asc").write_text(str(cert))
    found = Keys([str(tmp_path), HKP], web.get).find(fingerprint(cert))
    assert Cert.from_bytes(found or b"").is_revoked
    assert web.asked == []
