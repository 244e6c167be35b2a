# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal, as people reach it: by `bcm open`, from a local network, and through Tor, in a real browser."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import browser, tornet
from tests.e2e.conftest import Person, inside, opened, reported, until
from tests.e2e.lan import FAR, HOST, LISTED, NEAR, local_network
from tests.support import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.whole]

NAME = "web"
NAMESPACE, PORT = "bcm-lan", 443
LAN = {"address": HOST, "port": PORT, "from": LISTED}
FETCH = Path(__file__).with_name("programs") / "fetch.py"
TITLE = f"{NAME} on regtest"
POLICY = Path("/etc/chromium/policies/managed/bcm-tests.json")
SIZES = {"phone": (360, 800), "desktop": (1280, 900)}


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """A local network of the host with two other addresses, one of which the inventory lists."""
    with local_network(NAMESPACE):
        yield


@dataclass(frozen=True)
class Portal:
    person: Person
    address: str  # in the data center
    onion: str
    root: Path

    def bcm(self, *words: str, **more: str) -> str:
        return self.person.succeeds("-d", NAME, *words, **more)

    def fetched(self, source: str, *own: Path) -> str:
        """How the portal answers an address of the local network, which shows a certificate or not."""
        command = ["ip", "netns", "exec", NAMESPACE, sys.executable, FETCH, source, HOST, str(PORT), self.root, *own]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def portal(
    person: Person, network: None, relays: tornet.TorNetwork, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Portal]:
    person.datacenter(NAME, stack_path=str(Path(__file__).parent / "stacks"))
    with person.settings(NAME).open("a") as settings:
        settings.write(f"tor_network: true\ntor_lines: {json.dumps(relays.lines)}\n")
        settings.write(f"bcm_access: {json.dumps({'portal': {'lan': LAN}})}\n")
    try:
        found = reported(person.succeeds("-d", NAME, "stack", "start", "portal", "door", "--json"))["portal"]
        folder = tmp_path_factory.mktemp("root")
        person.succeeds("-d", NAME, "ca", "export", str(folder))
        (root,) = folder.glob("*.crt")
        yield Portal(person, found["address"], found["onions"][0]["address"].partition(":")[0], root)
    finally:
        person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


@pytest.fixture(scope="module")
def alice(portal: Portal, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The certificate that she was given, and its key."""
    folder = tmp_path_factory.mktemp("alice")
    portal.bcm("access", "grant", "alice", "portal", "--by", "lan", "--out", str(folder))
    assert (folder / "alice@portal.p12").exists()
    return folder / "alice@portal.crt", folder / "alice@portal.key"


def test_listed_networks_reach_it_with_a_certificate(portal: Portal, alice: tuple[Path, Path]) -> None:
    assert portal.fetched(NEAR, *alice) == "HTTP/1.1 200 OK"
    assert portal.fetched(NEAR) == "closed", "a client without a certificate"
    assert portal.fetched(FAR, *alice).startswith("unreachable"), "a network that is not listed"


def test_certificate_that_is_not_for_this_stack_is_refused(portal: Portal, tmp_path: Path) -> None:
    portal.bcm("ca", "issue", "bob", "--usage", "client", "--out", str(tmp_path))
    assert portal.fetched(NEAR, tmp_path / "bob.crt", tmp_path / "bob.key") == "closed"


def test_page_is_small_and_fast(portal: Portal) -> None:
    def facts() -> dict[str, int]:
        return dict(reported(portal.bcm("stack", "start", "portal", "--json"))["portal"]["facts"])

    assert 0 < facts()["size"] <= 100_000
    until(lambda: facts()["milliseconds"] <= 200, "the page in 200 ms, whatever else this machine does", 120)


def test_access_is_listed(portal: Portal, alice: tuple[Path, Path]) -> None:
    listed = json.loads(portal.bcm("access", "list", "--json"))
    door, row = listed["services"]
    assert (door["stack"], door["here"], door["lan"], door["onion"]) == ("door", True, None, None)
    assert row["here"] and row["lan"]["from"] == LAN["from"] and row["lan"]["clients"] == ["alice"]
    assert row["onion"]["address"] == portal.onion


def test_privacy_finds_nothing_open(portal: Portal, alice: tuple[Path, Path]) -> None:
    report = json.loads(portal.bcm("privacy", "--json"))
    assert report["problems"] == [] and report["undecided"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"address": "192.168.77.99"}, "Address 192.168.77.99:443 of portal in bcm_access is not one of"),
        ({"port": 8999}, f"Address {HOST}:8999 of portal in bcm_access is taken by a program of this machine"),
        ({"names": ["portal.example.org"]}, '"portal.example.org" of certificate portal is outside of what may be'),
    ],
)
def test_wrong_access_is_refused_before_anything_changes(portal: Portal, change: dict[str, object], said: str) -> None:
    settings = portal.person.settings(NAME)
    before = settings.read_text()
    with socket.create_server((HOST, 8999)):
        try:
            settings.write_text(f"{before}bcm_access: {json.dumps({'portal': {'lan': {**LAN, **change}}})}\n")
            done = portal.person.types("-d", NAME, "stack", "start", "portal", "--json")
        finally:
            settings.write_text(before)
    (error,) = json.loads(done.stdout)["errors"]
    assert said in error["message"] and done.returncode
    assert inside(NAME, "portal", "systemctl", "is-active", "portal", "tls") == "active\nactive"


def test_browser_of_bcm_open_reaches_the_portal_and_nothing_else(
    portal: Portal, driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with opened(portal.person, NAME, driver, "portal", tmp_path) as page:
        until(lambda: page.title == TITLE, "the portal's page", 120)
        assert page.url == f"https://{portal.address}:8443/"
        page.open(f"https://portal.{NAME}-regtest.bcm:8443/")
        assert page.title == TITLE, "by name, too"
        assert page.run("return document.scripts.length") == 0
        for url in ("https://198.51.100.7/", "http://127.0.0.1:8080/", f"https://{HOST}/"):
            with pytest.raises(browser.BrowserError, match="ERR_SOCKS_CONNECTION_FAILED"):
                page.open(url)
        page.open(f"https://{portal.address}:8443/")
        axe = browser.axe(tmp_path)
        keep = request.config.getoption("--pages")
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                page.show_as(width, height, scheme)
                assert page.run("return document.documentElement.scrollWidth") <= width
                assert page.barriers(axe) == []
                if keep:
                    (ROOT / keep / f"portal-{size}-{scheme}.png").write_bytes(page.picture())


def test_browser_of_bcm_open_has_a_certificate_for_pages_that_ask(
    portal: Portal, driver: str, tmp_path: Path
) -> None:
    """Chromium asks its user whether to show it, here a policy answers."""
    answer = {"AutoSelectCertificateForUrls": [json.dumps({"pattern": "*", "filter": {}})]}
    POLICY.parent.mkdir(parents=True, exist_ok=True)
    POLICY.write_text(json.dumps(answer))
    try:
        with opened(portal.person, NAME, driver, "door", tmp_path) as page:
            until(lambda: page.title == "Behind the door", "the page behind the door", 120)
            for url in ("https://198.51.100.7/logo.png", "wss://198.51.100.7/"):
                assert page.forbids(url), "its program sends no policy, the TLS proxy does"
    finally:
        POLICY.unlink()


def test_browser_without_the_root_refuses_the_portal(portal: Portal, driver: str, tmp_path: Path) -> None:
    """It is the root of the data center that `bcm open` trusts, and no other that Chromium knows."""
    page = browser.started(driver, f"--user-data-dir={tmp_path}")
    page.open(f"https://{HOST}/")
    assert page.title == "Privacy error"
    assert "ERR_CERT_AUTHORITY_INVALID" in page.run("return document.documentElement.outerHTML")
    page.close()


def test_browser_reaches_it_through_tor_with_a_key(
    portal: Portal, driver: str, relays: tornet.TorNetwork, tmp_path: Path
) -> None:
    file = tmp_path / "alice.auth_private"
    portal.bcm("access", "grant", "alice", "portal", "--by", "onion", "--out", str(file))
    client = tornet.Client(relays, "alice", file.read_text())
    client.tor.bootstrapped()
    answer = client.get(portal.onion, say=b"GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    proxy = f"--proxy-server=socks5://127.0.0.1:{client.port}"
    page = browser.started(driver, f"--user-data-dir={tmp_path}/profile", proxy, "--disable-features=HttpsUpgrades")
    page.open(f"http://{portal.onion}/")
    assert page.title == TITLE
    page.close()
    assert tornet.NO_KEY in tornet.refusal(relays, portal.onion)


def test_revoked_certificate_is_refused(portal: Portal, alice: tuple[Path, Path]) -> None:
    portal.bcm("access", "revoke", "alice", "portal", "--by", "lan")
    portal.bcm("stack", "start", "portal")
    assert portal.fetched(NEAR, *alice) == "closed"


def test_connections_from_local_networks_end_with_the_access(portal: Portal) -> None:
    settings = portal.person.settings(NAME)
    settings.write_text(settings.read_text().replace("bcm_access: ", "former_access: "))
    portal.bcm("stack", "start", "portal")
    assert portal.fetched(NEAR).startswith("unreachable")
