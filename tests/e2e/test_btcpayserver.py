# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A shop: invoices are paid on chain and by Lightning, whatever happens to the database and nodes behind it.

BTCPay Server and NBXplorer are doubles; bitcoind, PostgreSQL and both lnd are real. Core Lightning is a double unless
BCM_CLIGHTNING_ARCHIVE names the real one, and Ride The Lightning unless BCM_RIDETHELIGHTNING_ARCHIVE does.
"""

from __future__ import annotations

import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import browser, clightning, https, tornet
from tests.browser import Browser
from tests.capture import capturing
from tests.e2e import neighbour
from tests.e2e.conftest import Person, client, follow, inside, opened, quiet, reported
from tests.e2e.neighbour import Neighbour
from tests.record_clightning import WORDS
from tests.support import RELAYS, until

pytestmark = [pytest.mark.containers, pytest.mark.whole]

NAME = "shop"
_ASK = (Path(__file__).parent / "programs/shop.py").read_text()
STACKS = ("btcpayserver", "lnd", "ridethelightning", "portal")
PROVED = ["an invoice can be paid by BTC-CHAIN and BTC-LN", f"log in as administrator@{NAME}-regtest.bcm"]
ELSEWHERE = "198.51.100.78"
EXCHANGE = "api.kraken.com"
#: what a bitcoin costs there, in dollars
PRICE = 50_000
#: what its authority is called in the folder of those that everybody trusts
AUTHORITY = "/usr/share/ca-certificates/mozilla/of-the-exchange.crt"
_TRY = "timeout 5 bash -c 'exec 3<>/dev/tcp/{place}' 2>/dev/null && echo open || echo closed"
# Prints the circuit of each stream that tor has for somebody, by its destination.
_STREAMS = """
import json, pathlib, socket
control = socket.socket(socket.AF_UNIX)
control.connect("/run/tor/control")
cookie = pathlib.Path("/run/tor/control.cookie").read_bytes().hex()
control.sendall(f"AUTHENTICATE {cookie}\\r\\nGETINFO stream-status\\r\\nQUIT\\r\\n".encode())
words = [line.split() for line in control.makefile()]
print(json.dumps({line[3]: line[2] for line in words if len(line) == 4 and line[1] == "SUCCEEDED"}))
"""


def ask(method: str, path: str, body: Any = None, login: str = "", place: str = "127.0.0.1:23000") -> tuple[int, Any]:
    """Status of an answer, and what it is: text, or read from JSON."""
    ((status, text),) = ask_often(1, method, path, body, login, place)[0]
    return status, json.loads(text) if text[:1] in ("{", "[") else text


def ask_often(
    count: int, method: str, path: str, body: Any = None, login: str = "", place: str = "127.0.0.1:23000"
) -> tuple[list[tuple[int, str]], float]:
    """All answers, and how many seconds they took."""
    text = "" if body is None else json.dumps(body)
    words = ("python3", "-c", _ASK, place, method, path, text, login, str(count))
    found = json.loads(inside(NAME, "btcpayserver", *words))
    return [(status, answer) for status, answer in found["answers"]], found["seconds"]


def bitcoin(*words: str) -> str:
    return inside(NAME, "bitcoind", "bitcoin-cli", *words)


def mine(count: int, address: str = "") -> None:
    verb = ("generatetoaddress", str(count), address) if address else ("generatetodescriptor", str(count), "raw(51)")
    bitcoin(*verb)


def address_of(stack: str) -> str:
    with client(NAME) as lxd:
        return str(lxd.get(f"/1.0/instances/{stack}")["devices"]["eth0"]["ipv4.address"])


def start(person: Person, *more: str) -> dict[str, Any]:
    return dict(json.loads(person.succeeds("-d", NAME, "stack", "start", *STACKS, *more, "--json")))


def pay(payer: Neighbour, bolt11: str) -> None:
    """By Lightning; a route that failed, since a node had yet to follow a block, is tried again."""
    script = f"{payer.command} payinvoice --force --json {bolt11} || true"
    until(lambda: '"SUCCEEDED"' in inside(NAME, "lnd", "sh", "-c", script), "a payment")


def send(payer: Neighbour, address: str, satoshi: int) -> None:
    """On chain."""
    payer.ask("sendcoins", f"--addr={address}", f"--amt={satoshi}", "--sat_per_vbyte=2")


def follow_a_block(payer: Neighbour) -> None:
    def synced() -> bool:
        own = json.loads(inside(NAME, "lnd", "lncli", "getinfo"))
        return bool(own["synced_to_chain"] and payer.ask("getinfo")["synced_to_chain"])

    follow(lambda: mine(1), synced, "a block in both nodes")


class Shop:
    """The shop as its administrator."""

    def __init__(self, person: Person) -> None:
        password = person.succeeds("-d", NAME, "secret", "show", "btcpayserver/password").strip()
        self.login = f"administrator@{NAME}-regtest.bcm:{password}"
        permissions = ["cancreateinvoice", "canmodifystoresettings", "canviewinvoices", "canviewstoresettings"]
        permissions.append("webhooks.canmodifywebhooks")
        wanted = [f"btcpay.store.{word}" for word in permissions]
        body = {"label": "shop", "permissions": [*wanted, "btcpay.server.canuseinternallightningnode"]}
        status, found = ask("POST", "/api/v1/api-keys", body, self.login)
        assert status == 200, found
        self.key = f"token {found['apiKey']}"
        (store,) = ask("GET", "/api/v1/stores", login=self.key)[1]
        self.store = f"/api/v1/stores/{store['id']}"

    def invoice(self, amount: str) -> dict[str, str]:
        """A new invoice: its id, and where it is paid."""
        status, found = ask("POST", f"{self.store}/invoices", {"amount": amount, "currency": "BTC"}, self.key)
        assert status == 200, found
        ways = ask("GET", f"{self.store}/invoices/{found['id']}/payment-methods", login=self.key)[1]
        return {"id": found["id"], **{item["paymentMethodId"]: item["destination"] for item in ways}}

    def status(self, invoice: dict[str, str]) -> str:
        return str(ask("GET", f"{self.store}/invoices/{invoice['id']}", login=self.key)[1]["status"])

    def settles(self, invoice: dict[str, str], status: str = "Settled") -> None:
        until(lambda: self.status(invoice) == status, f"the invoice is {status}")


@pytest.fixture(scope="module")
def report(
    person: Person, relays: tornet.TorNetwork, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """A shop with a Lightning node, and the page that lists it."""
    folder = tmp_path_factory.mktemp("images")
    person.datacenter(NAME)
    settings = json.loads(clightning.environment(folder)["BCM_TEST_SETTINGS"])
    settings |= {
        "btcpayserver_shop": True,
        "tor_network": True,
        "tor_lines": [*relays.lines, f"MapAddress {EXCHANGE} {ELSEWHERE}"],
    }
    with person.settings(NAME).open("a") as file:
        file.write("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    warnings = start(person)["warnings"]
    assert any("lnd waits for blocks" in warning for warning in warnings)
    mine(1)
    until(lambda: "SERVER_ACTIVE" in inside(NAME, "lnd", "lncli", "state"), "lnd has all blocks")
    yield start(person)
    person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


@pytest.fixture(scope="module")
def shop(person: Person, report: dict[str, Any]) -> Shop:
    return Shop(person)


@pytest.fixture(scope="module")
def payer(shop: Shop) -> Iterator[Neighbour]:
    """Another lnd with a channel to the shop's."""
    with neighbour.running(NAME, "payer") as (node,):
        mine(101, node.ask("newaddress", "p2wkh")["address"])
        until(lambda: int(node.ask("walletbalance")["confirmed_balance"]) > 0, "the payer has coins")
        key = json.loads(inside(NAME, "lnd", "lncli", "getinfo"))["identity_pubkey"]
        place = inside(NAME, "lnd", "sed", "-n", "s/^listen=//p", "/etc/lnd/lnd.conf")
        node.ask("connect", f"{key}@{place}")
        # Either node may have to follow the blocks first.
        script = f"{node.command} openchannel {key} 1000000 || true"
        until(lambda: "funding_txid" in inside(NAME, "lnd", "sh", "-c", script), "a channel")
        mine(6)
        until(lambda: any(item["active"] for item in node.ask("listchannels")["channels"]), "its use")
        yield node


def test_run_proves_both_and_the_second_changes_nothing(person: Person, report: dict[str, Any]) -> None:
    stacks = reported(json.dumps(report))
    assert stacks["nbxplorer"]["facts"]["height"] == stacks["bitcoind"]["facts"]["height"]
    assert stacks["btcpayserver"]["verified"] == PROVED
    assert stacks["ridethelightning"]["facts"] == {"nodes": ["lnd"], "height": stacks["bitcoind"]["facts"]["height"]}
    assert person.succeeds("-d", NAME, "stack", "start", *STACKS).rstrip().endswith("nothing changed")
    page = inside(NAME, "portal", "sh", "-c", "cat /var/lib/portal/page/*.html")
    assert "BTCPay Server" in page and "Ride The Lightning" in page


def test_portal_shows_what_answers_now(report: dict[str, Any]) -> None:
    """And how high the chain is, without a run."""

    def shows(*texts: str) -> bool:
        page = inside(NAME, "portal", "cat", "/var/lib/portal/page/index.html")
        return all(text in page for text in texts)

    gone = "see <code>bcm logs btcpayserver</code>"
    mine(1)
    inside(NAME, "btcpayserver", "systemctl", "stop", "btcpayserver")
    height = f">height {bitcoin('getblockcount')}</span>"
    until(lambda: shows(height, gone, ">answers</span>"), "the height, and that the shop is gone")
    inside(NAME, "btcpayserver", "systemctl", "start", "btcpayserver", "btcpayserver-web")
    until(lambda: shows(height) and not shows(gone), "that it answers again")


def test_nobody_else_is_taken_for_the_tracker_or_its_consumer(report: dict[str, Any]) -> None:
    """NBXplorer knows a stack by its cookie, and bitcoind keeps connections of NBXplorer's address alone."""
    asked = "import sys; sys.path.append('/usr/local/lib')\nfrom bcm_guest.prove import Endpoint, http_request\n"
    asked += "for cookie in ('', '__cookie__:' + '0' * 64, open('/etc/btcpayserver/nbxplorer.cookie').read()):\n"
    asked += f" print(http_request(Endpoint('{address_of('nbxplorer')}', 24446, True), path='/v1/cryptos/btc/status',"
    asked += " credentials=cookie)[0])"
    assert inside(NAME, "btcpayserver", "python3", "-c", asked).split() == ["401", "401", "200"]
    own = address_of("bitcoind")
    script = f"exec 3<>/dev/tcp/{own}/18444; bitcoin-cli getpeerinfo"

    def trusted() -> dict[str, bool]:
        peers = json.loads(inside(NAME, "bitcoind", "bash", "-c", script))
        return {peer["addr"].partition(":")[0]: "noban" in peer["permissions"] for peer in peers}

    until(lambda: trusted() == {address_of("nbxplorer"): True, own: False}, "who is trusted")


def test_invoice_is_paid_on_chain(shop: Shop, payer: Neighbour) -> None:
    invoice = shop.invoice("0.001")
    send(payer, invoice["BTC-CHAIN"], 100_000)
    shop.settles(invoice, "Processing")
    mine(1)
    shop.settles(invoice)


def test_invoice_is_paid_by_lightning(shop: Shop, payer: Neighbour) -> None:
    invoice = shop.invoice("0.00012345")
    status, page = ask("GET", f"/i/{invoice['id']}")
    assert status == 200 and "0.00012345" in page and invoice["BTC-LN"] in page
    pay(payer, invoice["BTC-LN"])
    shop.settles(invoice)


def test_customers_get_invoices_and_nothing_else(shop: Shop, report: dict[str, Any]) -> None:
    invoice = shop.invoice("0.0001")
    listening = "sed -n 's/.*listen \\(.*:23001\\);/\\1/p' /etc/btcpayserver/nginx.conf"
    place = inside(NAME, "btcpayserver", "sh", "-c", listening)
    own = f"/i/{invoice['id']}"
    status, page = ask("GET", own, place=place)
    # Links lead to the address at which it was asked.
    assert status == 200 and f"//{place}{own}" in page
    for path in ("/", "/login", "/register", "/api/v1/health", "/stores", "/server/users", "//login", "/i/../login"):
        assert ask("GET", path, place=place)[0] == 404, path
    assert ask("GET", "/api/v1/users/me", login=shop.login, place=place)[0] == 404


def settle_on_page(page: Browser, url: str, invoice: dict[str, str], payer: Neighbour) -> None:
    """Pay an invoice while a customer looks at its page, which says so by itself."""
    page.open(f"{url}/i/{invoice['id']}")
    assert "0.0001" in page.text and invoice["BTC-LN"] in page.text and "New" in page.text
    pay(payer, invoice["BTC-LN"])
    until(lambda: "Settled" in page.text, "what the page says of the payment")
    # What somebody adds to a page, such as a logo, is not asked for: a policy forbids it.
    assert page.sources == {url}
    assert page.forbids(f"https://{ELSEWHERE}/logo.png")


def test_invoice_is_settled_in_the_browser(
    person: Person, shop: Shop, payer: Neighbour, driver: str, tmp_path: Path
) -> None:
    with opened(person, NAME, driver, "btcpayserver", tmp_path) as page:
        until(lambda: page.title == "Sign in", "the page that asks for the password")
        settle_on_page(page, page.url.removesuffix("/login"), shop.invoice("0.0001"), payer)


def test_only_the_administrator_makes_users(shop: Shop) -> None:
    body = {"email": "second@example.org", "password": "a long password", "isAdministrator": True}
    assert ask("POST", "/api/v1/users", body)[0] == 401
    assert ask("POST", "/api/v1/users", {**body, "isAdministrator": False})[0] == 401
    assert ask("GET", "/register")[0] == 302
    assert ask("POST", "/api/v1/users", body, shop.login)[0] == 201
    assert ask("GET", "/api/v1/users/me", login="second@example.org:a long password")[1]["roles"] == ["ServerAdmin"]


def test_two_hundred_invoices_are_made_in_a_minute(shop: Shop) -> None:
    body = {"amount": "0.00001", "currency": "BTC"}

    def is_fast() -> bool:
        answers, seconds = ask_often(200, "POST", f"{shop.store}/invoices", body, shop.key)
        assert [status for status, _text in answers] == [200] * 200
        assert len({json.loads(text)["id"] for _status, text in answers}) == 200
        return seconds < 60

    until(is_fast, "200 invoices in a minute, whatever else this machine does")


def test_invoices_survive_a_kill_of_the_database_in_mid_write(shop: Shop) -> None:
    answers: list[tuple[int, str]] = []
    body = {"amount": "0.00002", "currency": "BTC"}

    def sell() -> None:
        answers.extend(ask_often(200, "POST", f"{shop.store}/invoices", body, shop.key)[0])

    def sold() -> int:
        statement = "SELECT count(*) FROM invoices WHERE amount = '0.00002'"
        login = ("--host=/run/postgresql", "--username=postgres", "--dbname=btcpayserver")
        return int(inside(NAME, "postgresql", "psql", *login, "-XqAtc", statement))

    seller = threading.Thread(target=sell)
    seller.start()
    until(lambda: sold() > 10, "some are made")
    inside(NAME, "postgresql", "systemctl", "kill", "--signal=KILL", "postgresql")
    seller.join(300)
    made = [json.loads(text)["id"] for status, text in answers if status == 200]
    assert len(made) > 10
    for name in (made[0], made[len(made) // 2], made[-1]):
        assert ask("GET", f"{shop.store}/invoices/{name}", login=shop.key)[1]["status"] == "New"
    assert sold() >= len(made)


def test_payments_that_came_while_a_node_restarted_are_seen(shop: Shop, payer: Neighbour) -> None:
    lightning, chain = shop.invoice("0.00003"), shop.invoice("0.0005")
    inside(NAME, "btcpayserver", "systemctl", "stop", "btcpayserver")
    pay(payer, lightning["BTC-LN"])
    inside(NAME, "nbxplorer", "systemctl", "stop", "nbxplorer")
    send(payer, chain["BTC-CHAIN"], 50_000)
    mine(1)
    inside(NAME, "bitcoind", "systemctl", "restart", "bitcoind")
    inside(NAME, "nbxplorer", "systemctl", "start", "nbxplorer")
    inside(NAME, "btcpayserver", "systemctl", "start", "btcpayserver", "btcpayserver-web")
    until(lambda: ask("GET", "/api/v1/health")[1] == {"synchronized": True}, "it is synced again")
    follow_a_block(payer)
    shop.settles(lightning)
    shop.settles(chain)


def test_payments_that_came_while_passwords_were_rotated_are_seen(person: Person, shop: Shop, payer: Neighbour) -> None:
    """Of the database: until the next run, neither of the two gets in."""
    lightning, chain = shop.invoice("0.00004"), shop.invoice("0.0006")
    person.succeeds("-d", NAME, "secret", "rotate", "postgresql/sql/btcpayserver", "postgresql/sql/nbxplorer")
    assert ask("GET", f"{shop.store}/invoices/{chain['id']}", login=shop.key)[0] == 500
    pay(payer, lightning["BTC-LN"])
    send(payer, chain["BTC-CHAIN"], 60_000)
    mine(1)
    assert reported(json.dumps(start(person)))["btcpayserver"]["verified"] == PROVED
    shop.settles(lightning)
    shop.settles(chain)


def test_revoked_credential_is_replaced_by_the_next_run(person: Person, shop: Shop) -> None:
    rotated = ("lnd/rest/btcpayserver", "btcpayserver/password", "lnd/rest/ridethelightning")
    former = inside(NAME, "ridethelightning", "cat", "/etc/ridethelightning/credentials.json")
    person.succeeds("-d", NAME, "secret", "rotate", *rotated)
    assert set(shop.invoice("0.0001")) == {"id", "BTC-CHAIN"}
    stacks = reported(json.dumps(start(person)))
    assert stacks["btcpayserver"]["verified"] == PROVED
    assert ask("GET", "/api/v1/users/me", login=shop.login)[0] == 401
    assert set(shop.invoice("0.0001")) == {"id", "BTC-CHAIN", "BTC-LN"}
    assert stacks["ridethelightning"]["facts"]["nodes"] == ["lnd"]
    assert inside(NAME, "ridethelightning", "cat", "/etc/ridethelightning/credentials.json") != former


def test_shop_is_open_to_everybody_with_tor_and_its_administration_is_not(
    person: Person,
    shop: Shop,
    payer: Neighbour,
    report: dict[str, Any],
    relays: tornet.TorNetwork,
    driver: str,
    tmp_path: Path,
) -> None:
    onions = {item["service"]: item for item in reported(json.dumps(report))["btcpayserver"]["onions"]}
    assert onions["shop"]["public"] == "customers pay there" and not onions["http"]["public"]
    places = {name: item["address"].partition(":")[0] for name, item in onions.items()}
    file = tmp_path / "alice.auth_private"
    person.succeeds("-d", NAME, "access", "grant", "alice", "btcpayserver", "--out", str(file))
    client = tornet.Client(relays, "alice", file.read_text())
    client.tor.bootstrapped()
    own = f"/i/{shop.invoice('0.0001')['id']}"

    def status(service: str, path: str) -> bytes:
        host = places[service]
        return client.get(host, say=f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()).split()[1]

    assert status("shop", own) == b"200" and status("shop", "/login") == b"404"
    assert status("http", "/login") == b"200"
    assert tornet.NO_KEY in tornet.refusal(relays, places["http"])
    customer = tornet.Client(relays, "customer")
    customer.tor.bootstrapped()
    customer.get(places["shop"], say=f"GET {own} HTTP/1.0\r\nHost: {places['shop']}\r\n\r\n".encode())
    proxy = f"--proxy-server=socks5://127.0.0.1:{customer.port}"
    options = (f"--user-data-dir={tmp_path}/profile", proxy, "--disable-features=HttpsUpgrades")
    with quiet(NAME):
        page = browser.started(driver, *options)
        try:
            settle_on_page(page, f"http://{places['shop']}", shop.invoice("0.0001"), payer)
        finally:
            page.close()


def test_lnd_may_restart_with_another_certificate(person: Person, shop: Shop) -> None:
    person.succeeds("-d", NAME, "ca", "renew", "lnd")
    person.succeeds("-d", NAME, "stack", "restart", "lnd")
    until(lambda: set(shop.invoice("0.0001")) == {"id", "BTC-CHAIN", "BTC-LN"}, "invoices by Lightning")
    stacks = reported(json.dumps(start(person)))
    assert stacks["btcpayserver"]["verified"] == PROVED
    assert stacks["ridethelightning"]["facts"]["nodes"] == ["lnd"]


def pay_clightning(person: Person, bolt11: str) -> None:
    """By lnd, through a channel that Core Lightning opens. Of the double's invoices, the newest is taken for paid."""
    if not clightning.ARCHIVE:
        path = "/var/lib/clightning/regtest/invoices-of-the-double"
        known = json.loads(inside(NAME, "clightning", "cat", path))
        paid = json.dumps({**known, [*known][-1]: "paid"})
        inside(NAME, "clightning", "sh", "-c", f"cat <<'END' > {path}\n{paid}\nEND")
        return

    def cli(*words: str) -> str:
        return inside(NAME, "clightning", "sh", "-c", '"$@" || true', "sh", "lightning-cli", *words)

    person.succeeds("-d", NAME, "lightning", "fund", "clightning")
    until(lambda: '"confirmed"' in cli("listfunds"), "coins of Core Lightning")
    key, _at, place = json.loads(inside(NAME, "lnd", "lncli", "getinfo"))["uris"][0].partition("@")
    until(lambda: f'"id": "{key}"' in cli("connect", key, *place.split(":")), "both nodes meet")
    funding = ("-k", "fundchannel", f"id={key}", "amount=1000000", "push_msat=400000000", "feerate=1000perkw")
    until(lambda: '"txid"' in cli(*funding), "a channel")
    mine(6)
    script = f"lncli payinvoice --force --json {bolt11} || true"
    until(lambda: '"SUCCEEDED"' in inside(NAME, "lnd", "sh", "-c", script), "a payment")


def test_core_lightning_is_the_node_if_the_inventory_says_so(person: Person, shop: Shop) -> None:
    secrets = person.home / "inventories" / NAME / "secrets/regtest.json"
    secrets.write_text(json.dumps({**json.loads(secrets.read_text()), "clightning/recovery_words": WORDS}))
    person.succeeds("-d", NAME, "config", "set", "btcpayserver_lightning=clightning")
    stacks = reported(json.dumps(start(person, "clightning")))
    assert stacks["btcpayserver"]["verified"] == PROVED
    assert set(shop.invoice("0.0001")) == {"id", "BTC-CHAIN", "BTC-LN"}
    node = "/api/v1/server/lightning/BTC"
    assert ask("GET", f"{node}/info", login=shop.key)[1]["id"] == stacks["clightning"]["facts"]["public_key"]
    for what in ("balance", "channels", "payments"):
        assert ask("GET", f"{node}/{what}", login=shop.key)[0] == 200
    status, refused = ask("POST", f"{node}/invoices/pay", {"BOLT11": "lnbcrt1"}, shop.key)
    assert (status, refused["message"]) == (400, "Unknown command 'pay'")
    invoice = shop.invoice("0.00005")
    pay_clightning(person, invoice["BTC-LN"])
    shop.settles(invoice)
    assert person.succeeds("-d", NAME, "stack", "start", *STACKS).rstrip().endswith("nothing changed")


@pytest.mark.parametrize("change", [("stack", "restart", "clightning"), ("ca", "renew", "clightning")])
def test_node_may_restart_and_have_another_certificate(person: Person, shop: Shop, change: tuple[str, ...]) -> None:
    person.succeeds("-d", NAME, *change)
    stacks = reported(json.dumps(start(person)))
    assert stacks["btcpayserver"]["verified"] == PROVED
    assert set(shop.invoice("0.0001")) == {"id", "BTC-CHAIN", "BTC-LN"}


def test_node_is_the_former_one_again(person: Person, shop: Shop) -> None:
    person.succeeds("-d", NAME, "config", "set", "btcpayserver_lightning=lnd")
    assert reported(json.dumps(start(person)))["btcpayserver"]["verified"] == PROVED
    assert "btcpayserver-node" not in inside(NAME, "btcpayserver", "systemctl", "list-units", "--no-legend")


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """An exchange, and a program of somebody who wants to hear of payments."""

    #: from where it was asked, the circuit of that, and the event; none of an exchange
    heard: list[tuple[str, str, dict[str, Any]]]

    def do_POST(self) -> None:
        self.hear(json.loads(self.rfile.read(int(self.headers["Content-Length"]))), b"")

    def do_GET(self) -> None:
        assert self.path == "/0/public/Ticker?pair=XBTUSD"
        found = {"error": [], "result": {"XXBTZUSD": {"c": [f"{PRICE}.0", "0.1"]}}}
        self.hear({}, json.dumps(found).encode())

    def hear(self, event: dict[str, Any], answer: bytes) -> None:
        # As long as it has no answer, the stream is there.
        circuits = json.loads(inside(NAME, "tor", "python3", "-c", _STREAMS))
        (circuit,) = (item for to, item in circuits.items() if to.endswith(f":{self.server.server_address[1]}"))
        self.heard.append((self.client_address[0], circuit, event))
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextmanager
def listening(port: int, tls: ssl.SSLContext | None = None) -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    """What somebody in the world hears."""
    handler = type("Handler", (Elsewhere,), {"heard": []})
    with http.server.ThreadingHTTPServer((ELSEWHERE, port), handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield handler.heard
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def exchange(shop: Shop, tmp_path: Path) -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    """What an exchange is asked whose certificate is of an authority that everybody trusts."""
    (certificate, key), authority = https.certified(tmp_path, EXCHANGE)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    inside(NAME, "btcpayserver", "sh", "-c", f"cat <<'END' > {AUTHORITY}\n{authority.read_text()}\nEND")
    subprocess.run(["ip", "address", "replace", f"{ELSEWHERE}/32", "dev", "lo"], check=True)
    try:
        with listening(443, tls) as heard:
            yield heard
    finally:
        subprocess.run(["ip", "address", "delete", f"{ELSEWHERE}/32", "dev", "lo"], check=True)
        inside(NAME, "btcpayserver", "rm", AUTHORITY)


def test_hosts_of_the_inventory_are_asked_through_tor_and_no_others(
    person: Person, shop: Shop, exchange: list[tuple[str, str, dict[str, Any]]]
) -> None:
    body = {"amount": "25", "currency": "USD"}

    def deliveries() -> list[tuple[str, str]]:
        found = ask("GET", f"{shop.store}/webhooks/{hook}/deliveries", login=shop.key)[1]
        return [(item["status"], item["errorMessage"]) for item in found]

    def price() -> tuple[int, Any]:
        return ask("POST", f"{shop.store}/invoices", body, shop.key)

    def names(**variables: str) -> list[dict[str, str]]:
        person.succeeds("-d", NAME, "config", "set", *(f"{key}={value}" for key, value in variables.items()))
        return list(start(person)["through_tor"])

    rates = {"stack": "btcpayserver", "to": EXCHANGE, "why": "exchange rates"}
    webhooks = {"stack": "btcpayserver", "to": ELSEWHERE, "why": "webhooks"}
    with listening(8080) as heard, capturing(f"{NAME}-r-net", f"{NAME}-r-up") as capture:
        hook = ask("POST", f"{shop.store}/webhooks", {"url": f"http://{ELSEWHERE}:8080/hook"}, shop.key)[1]["id"]
        shop.invoice("0.0001")
        until(lambda: len(deliveries()) == 1, "a delivery")
        assert deliveries() == [("Failed", "[Errno 111] Connection refused")], "nothing is sent by itself"
        assert price()[0] == 400
        # No other program of its instance gets there, nor to tor.
        for place in (f"{ELSEWHERE} 8080", f"{address_of('tor')} 9050"):
            assert "closed" in inside(NAME, "btcpayserver", "bash", "-c", _TRY.format(place=place.replace(" ", "/")))

        assert names(btcpayserver_rates=EXCHANGE) == [rates]
        until(lambda: price()[0] == 200, "a rate")
        assert price()[1]["amount"] == f"{25 / PRICE:.8f}"
        # Another host is asked by nobody, whoever wrote it into the pages.
        until(lambda: "050200" in deliveries()[-1][1], "the refusal of a webhook")
        assert not heard

        assert names(btcpayserver_webhooks=ELSEWHERE) == [rates, webhooks]
        found = json.loads(person.succeeds("-d", NAME, "privacy", "--json"))
        # As the rules in force have them.
        assert (found["problems"], found["through_tor"]) == ([], [webhooks, rates])
        reach = {row["instance"]: {item.partition(" ")[0] for item in row["reaches"]} for row in found["instances"]}
        assert reach["btcpayserver"] in [{"nbxplorer", "postgresql", "tor", node} for node in ("lnd", "clightning")]
        assert (reach["nbxplorer"], reach["postgresql"]) == ({"bitcoind", "postgresql"}, set())
        assert json.loads(person.succeeds("-d", NAME, "stack", "status", "--json"))["through_tor"] == [webhooks, rates]
        page = inside(NAME, "portal", "sh", "-c", "cat /var/lib/portal/page/*.html")
        assert f"btcpayserver reaches {ELSEWHERE} through Tor: webhooks" in page
        invoice = shop.invoice("0.0001")
        until(lambda: any(event["invoiceId"] == invoice["id"] for *_from, event in heard), "a webhook")
        assert price()[0] == 200
        assert {source for source, *_more in heard + exchange} == {RELAYS}
        assert not {circuit for _source, circuit, _event in heard} & {circuit for _source, circuit, _event in exchange}
        assert not [packet for packet in capture.seen() if f" {ELSEWHERE}:" in packet]
        assert [packet for packet in capture.seen() if f" {RELAYS}:" in packet]
        assert names(btcpayserver_rates="", btcpayserver_webhooks="") == []
