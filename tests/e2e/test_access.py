# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The portal, as people reach it: by `bcm open`, from a local network, and through Tor, in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import plistlib
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.forward import Destination, socks_proxy
from tests import browser, tornet
from tests.e2e.conftest import Person, client, inside, opened, quiet, reported
from tests.e2e.lan import FAR, HOST, LISTED, NEAR, local_network
from tests.support import ROOT, until

pytestmark = pytest.mark.containers

NAME = "web"
NAMESPACE, PORT = "bcm-lan", 443
LAN = {"address": HOST, "port": PORT, "from": LISTED}
FETCH = Path(__file__).with_name("programs") / "fetch.py"
TITLE = f"{NAME} on regtest"
#: a documentation address at which nobody is
ELSEWHERE = "198.51.100.9"
PAGE = "/var/lib/portal/page/index.html"
POLICY = Path("/etc/chromium/policies/managed/bcm-tests.json")
EXCEPTION = {"stack": "door", "to": "192.0.2.0/28", "protocol": "tcp", "port": 443, "why": "a friend"}
SIZES = {"phone": (360, 800), "desktop": (1280, 900)}


#: what runs in the place of the portal's TLS proxy, at the address in its argument
IMPOSTOR = """
import http.server, ssl, subprocess, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<title>Impostor</title>")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/root/impostor.pem")
server = http.server.ThreadingHTTPServer((sys.argv[1], 8443), Page)
server.socket = context.wrap_socket(server.socket, server_side=True)
subprocess.run(["systemd-notify", "--ready"], check=True)
server.serve_forever()
"""


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

    def answer(self, path: str, source: str, *own: Path) -> str:
        """What the portal answers an address of the local network, which shows a certificate or not."""
        words = [FETCH, source, HOST, str(PORT), path, self.root, *own]
        command = ["ip", "netns", "exec", NAMESPACE, sys.executable, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def fetched(self, source: str, *own: Path) -> str:
        """The first line of that."""
        return self.answer("/", source, *own).partition("\n")[0]


@pytest.fixture(scope="module")
def portal(
    person: Person, network: None, relays: tornet.TorNetwork, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Portal]:
    person.datacenter(NAME, stack_path=str(Path(__file__).parent / "stacks"))
    with person.settings(NAME).open("a") as settings:
        settings.write(f"tor_network: true\ntor_lines: {json.dumps(relays.lines)}\n")
        settings.write(f"bcm_access: {json.dumps({'portal': {'lan': LAN}})}\n")
        settings.write(f"bcm_exceptions: {json.dumps([EXCEPTION])}\n")
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
    until(lambda: facts()["milliseconds"] <= 200, "the page in 200 ms, whatever else this machine does")


def test_day_by_which_a_run_is_needed_is_said(portal: Portal) -> None:
    found = json.loads(portal.bcm("stack", "status", "--json"))["renewal"]
    assert found["days_left"] == 29 and found["stack"] in ("door", "portal")
    said = f"Certificates are renewed by runs, the next of which has to be by {found['end'][:10]}"
    assert said in portal.bcm("stack", "status")
    assert said in inside(NAME, "portal", "cat", PAGE)


def test_timer_of_the_docs_renews_certificates(portal: Portal) -> None:
    """systemd takes its units, and its command asks nobody for anything."""
    (listing,) = [text for text in (ROOT / "docs/trust.md").read_text().split("```") if "[Timer]" in text]
    _nothing, service, timer = re.split(r"^# bcm-home\.\w+$", listing, flags=re.MULTILINE)
    words = re.findall("^ExecStart=%h/bcm/bcm (.*)$", service, re.MULTILINE)[0].split()
    units = {"service": service.replace("%h/bcm/bcm", "/bin/true"), "timer": timer}
    write = "".join(f"cat > bcm-home.{kind} <<'END'\n{text}\nEND\n" for kind, text in units.items())
    check = "systemd-analyze verify ./bcm-home.* 2>&1"
    assert inside(NAME, "portal", "sh", "-c", f"mkdir /root/units && cd /root/units && {write} {check}") == ""

    portal.bcm("ca", "renew", "portal")
    former = inside(NAME, "portal", "cat", "/etc/bcm/tls/certificate.pem")
    place = words.index("home")
    portal.person.succeeds(*words[:place], NAME, *words[place + 1 :])
    assert inside(NAME, "portal", "cat", "/etc/bcm/tls/certificate.pem") != former


def test_access_is_listed(portal: Portal, alice: tuple[Path, Path]) -> None:
    listed = json.loads(portal.bcm("access", "list", "--json"))
    door, row = listed["services"]
    assert (door["stack"], door["here"], door["lan"], door["onion"]) == ("door", True, None, None)
    assert row["here"] and row["lan"]["from"] == LAN["from"] and row["lan"]["clients"] == ["alice"]
    assert row["onion"]["address"] == portal.onion


def test_privacy_finds_nothing_open(portal: Portal, alice: tuple[Path, Path]) -> None:
    report = json.loads(portal.bcm("privacy", "--json"))
    assert report["problems"] == [] and report["undecided"] == []
    tried = {"from": HOST, "listed": True, "without_certificate": "refused", "client": "alice"}
    address = {"stack": "portal", "address": f"{HOST}:{PORT}"}
    assert report["lan"] == [{**address, **tried, "with_certificate": "let in"}]
    (onion,) = [item for item in report["tor"]["services"] if item["service"] == "portal-http"]
    assert onion["authorization"] and onion["fault"] is None, onion


def test_privacy_names_what_is_not_in_order_in_the_local_network(portal: Portal, alice: tuple[Path, Path]) -> None:
    """Its TLS proxy asks nobody for a certificate, and answers a network that is not listed any more."""
    config, settings = "/etc/bcm/tls/nginx.conf", portal.person.settings(NAME)
    before = settings.read_text()
    reload = "systemctl reload tls"
    change = "/ssl_verify_client/d; /proxy_pass/s,\\$granted_http,unix:/run/tls/http.sock,"
    inside(NAME, "portal", "sh", "-c", f"cp -p {config} /root/kept && sed -i '{change}' {config} && {reload}")
    try:
        found = json.loads(portal.person.types("-d", NAME, "privacy", "--json").stdout)
        assert f"portal at {HOST}:{PORT} lets a client in without a certificate" in found["problems"]
        settings.write_text(before.replace(LISTED[0], "192.168.78.0/24"))
        found = json.loads(portal.person.types("-d", NAME, "privacy", "--json").stdout)
        reached = f"portal at {HOST}:{PORT} can be reached from {HOST}, which is in none of its networks"
        assert reached in found["problems"]
    finally:
        settings.write_text(before)
        inside(NAME, "portal", "sh", "-c", f"mv /root/kept {config} && {reload}")


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
    axe = browser.axe(tmp_path)
    with opened(portal.person, NAME, driver, "portal", tmp_path) as page:
        until(lambda: page.title == TITLE, "the portal's page")
        assert page.url == f"https://{portal.address}:8443/"
        page.open(f"https://portal.{NAME}-regtest.bcm:8443/")
        assert page.title == TITLE, "by name, too"
        assert page.run("return document.scripts.length") == 0
        for url in ("https://198.51.100.7/", "http://127.0.0.1:8080/", f"https://{HOST}/"):
            with pytest.raises(browser.BrowserError, match="ERR_SOCKS_CONNECTION_FAILED"):
                page.open(url)
        page.open(f"https://{portal.address}:8443/")
        keep = request.config.getoption("--pages")
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                page.show_as(width, height, scheme)
                assert page.run("return document.documentElement.scrollWidth") <= width
                assert page.barriers(axe) == []
                if keep:
                    (ROOT / keep / f"portal-{size}-{scheme}.png").write_bytes(page.picture())


def codes_of(page: browser.Browser, folder: Path) -> set[str]:
    """What a camera reads of the QR codes of a page."""
    page.run("document.querySelectorAll('details').forEach(item => item.open = true)")
    places = page.run("return [...document.querySelectorAll('svg')].map(item => item.getBoundingClientRect().toJSON())")
    found = []
    for place in places:
        clip = {"scale": 2, **{key: place[key] for key in ("x", "y", "width", "height")}}
        taken = page.devtools("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        (folder / "code.png").write_bytes(base64.b64decode(taken["data"]))
        zbar = ["zbarimg", "-q", "--raw", folder / "code.png"]
        done = subprocess.run(zbar, capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
    return set(found)


def test_portal_gives_phones_the_root(
    portal: Portal, alice: tuple[Path, Path], driver: str, tmp_path: Path
) -> None:
    """By its codes, each of which a camera reads, and as the file or the profile to which they lead."""
    root = portal.root.read_text()
    assert portal.answer("/root.crt", NEAR, *alice).partition("\n\n")[2].strip() == root.strip()
    profile = plistlib.loads(portal.answer("/root.mobileconfig", NEAR, *alice).partition("\n\n")[2].encode())
    assert profile["PayloadType"] == "Configuration"
    (payload,) = profile["PayloadContent"]
    assert payload["PayloadType"] == "com.apple.security.root"
    assert payload["PayloadContent"] == ssl.PEM_cert_to_DER_cert(root)
    files = ("/root.crt", "/root.mobileconfig")
    with opened(portal.person, NAME, driver, "portal", tmp_path) as page:
        until(lambda: page.title == TITLE, "the portal's page")
        assert codes_of(page, tmp_path) == {
            f"{portal.onion}:80",
            *(f"https://{HOST}:{PORT}{path}" for path in files),
            *(f"http://{portal.onion}{path}" for path in files),
        }
        assert hashlib.sha256(payload["PayloadContent"]).hexdigest() in page.text
        assert "door reaches 192.0.2.0/28 tcp 443 without Tor: a friend" in page.text


def test_portal_says_what_is_old(portal: Portal) -> None:
    """Its page is made again and again; here what the last run has found is of another day."""
    state = "/var/lib/portal/state.json"
    before = inside(NAME, "portal", "cat", state)
    known = json.loads(before)
    known["stacks"]["portal"]["as_of"] = "2026-01-02 03:04 UTC"
    try:
        inside(NAME, "portal", "sh", "-c", f"cat > {state} <<'END'\n{json.dumps(known)}\nEND")
        until(lambda: "2026-01-02 03:04 UTC" in inside(NAME, "portal", "cat", PAGE), "the page is made again")
        assert "running, when it was last seen" in inside(NAME, "portal", "cat", PAGE)
    finally:
        inside(NAME, "portal", "sh", "-c", f"cat > {state} <<'END'\n{before}\nEND")


def test_browser_of_bcm_open_has_a_certificate_for_pages_that_ask(
    portal: Portal, driver: str, tmp_path: Path
) -> None:
    """Chromium asks its user whether to show it, here a policy answers."""
    answer = {"AutoSelectCertificateForUrls": [json.dumps({"pattern": "*", "filter": {}})]}
    POLICY.parent.mkdir(parents=True, exist_ok=True)
    POLICY.write_text(json.dumps(answer))
    try:
        with opened(portal.person, NAME, driver, "door", tmp_path) as page:
            until(lambda: page.title == "Behind the door", "the page behind the door")
            for url in ("https://198.51.100.7/logo.png", "wss://198.51.100.7/"):
                assert page.forbids(url), "its program sends no policy, the TLS proxy does"
    finally:
        POLICY.unlink()


@contextmanager
def impostor(portal: Portal, folder: Path) -> Iterator[Path]:
    """Somebody else answers in the place of the portal, with a certificate of an authority, whose root it is."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9")
    root, key, own = folder / "elsewhere.crt", folder / "elsewhere.key", folder / "own.crt"
    names = f"subjectAltName=IP:{portal.address}"
    for words in (
        ("-keyout", key, "-out", root, "-subj", "/CN=An authority elsewhere"),
        ("-CA", root, "-CAkey", key, "-keyout", folder / "own.key", "-out", own, "-subj", "/CN=portal",
         "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"),
    ):  # fmt: skip
        subprocess.run(["openssl", "req", "-x509", *curve, *words], check=True, capture_output=True)
    pem = (folder / "own.key").read_text() + own.read_text()
    inside(NAME, "portal", "sh", "-c", f"umask 077; cat > /root/impostor.pem <<'END'\n{pem}END\nsystemctl stop tls")
    unit = ("systemd-run", "--quiet", "--unit=impostor", "--service-type=notify", "--property=NotifyAccess=all")
    try:
        inside(NAME, "portal", *unit, "python3", "-c", IMPOSTOR, portal.address)
        yield root
    finally:
        inside(NAME, "portal", "sh", "-c", "systemctl stop impostor; rm /root/impostor.pem; systemctl start tls")


def test_browser_of_bcm_open_trusts_no_root_that_its_user_trusts(
    portal: Portal, driver: str, tmp_path: Path
) -> None:
    home, own = tmp_path / "home", tmp_path / "own"
    own.mkdir()
    url = f"https://{portal.address}:8443/"
    with impostor(portal, tmp_path) as root:
        program = browser.trusting(home, root)
        with client(NAME) as lxd:
            destination = Destination("portal", f"{portal.address}:8443")
            with socks_proxy(lxd, {(portal.address, 8443): destination}) as port:
                args = [*browser.HEADLESS, f"--proxy-server=socks5://127.0.0.1:{port}"]
                page = browser.Browser(driver, {"args": args, "binary": str(program)})
                page.open(url)
                assert page.title == "Impostor", "this user's own browser believes it"
                page.close()
        person = replace(portal.person, environment={**portal.person.environment, "HOME": str(home)})
        with opened(person, NAME, driver, "portal", own) as page:
            until(lambda: page.title == "Privacy error", "the browser's warning")
            assert "ERR_CERT_AUTHORITY_INVALID" in page.run("return document.documentElement.outerHTML")


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
    visitor = tornet.Client(relays, "alice", file.read_text())
    visitor.tor.bootstrapped()
    answer = visitor.get(portal.onion, say=b"GET / HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK")
    proxy = f"--proxy-server=socks5://127.0.0.1:{visitor.port}"
    options = (f"--user-data-dir={tmp_path}/profile", proxy, "--disable-features=HttpsUpgrades")
    with quiet(NAME):
        page = browser.started(driver, *options)
        page.open(f"http://{portal.onion}/")
        assert page.title == TITLE
        page.close()
    assert tornet.NO_KEY in tornet.refusal(relays, portal.onion)


def test_capture_shows_a_call_of_an_instance(portal: Portal) -> None:
    """Without these two, what was not seen while browsers were open would prove nothing."""
    connect = f"import socket; socket.create_connection(('{ELSEWHERE}', 80), 2)"
    with pytest.raises(AssertionError, match=f"{ELSEWHERE}:80"), quiet(NAME) as capture:
        inside(NAME, "tor", "sh", "-c", f'runuser -u debian-tor -- python3 -c "{connect}" || true')
        until(lambda: any(ELSEWHERE in packet for packet in capture.seen()), "the packet")


def test_capture_shows_a_call_of_a_browser(portal: Portal, driver: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=f"{ELSEWHERE}:443"), quiet(NAME) as capture:
        page = browser.started(driver, f"--user-data-dir={tmp_path}")
        page.open("about:blank")
        page.run(f"new Image().src = 'https://{ELSEWHERE}/logo.png'")
        until(lambda: any(ELSEWHERE in packet for packet in capture.seen()), "the packet")
        page.close()


def test_revoked_certificate_is_refused(portal: Portal, alice: tuple[Path, Path]) -> None:
    portal.bcm("access", "revoke", "alice", "portal", "--by", "lan")
    portal.bcm("stack", "start", "portal")
    assert portal.fetched(NEAR, *alice) == "closed"


def test_connections_from_local_networks_end_with_the_access(portal: Portal) -> None:
    settings = portal.person.settings(NAME)
    settings.write_text(settings.read_text().replace("bcm_access: ", "former_access: "))
    portal.bcm("stack", "start", "portal")
    assert portal.fetched(NEAR).startswith("unreachable")
