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
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import clightning, tornet
from tests.capture import capturing
from tests.e2e.conftest import Person, inside, opened, reported, until
from tests.record_clightning import WORDS
from tests.support import RELAYS

pytestmark = [pytest.mark.containers, pytest.mark.whole]

NAME = "shop"
_ASK = (Path(__file__).parent / "programs/shop.py").read_text()
_PATIENCE = 120.0
STACKS = ("btcpayserver", "lnd", "ridethelightning", "portal")
PROVED = ["an invoice can be paid by BTC-CHAIN and BTC-LN", f"log in as administrator@{NAME}-regtest.bcm"]
ELSEWHERE = "198.51.100.78"
#: another lnd, beside the first: what pays
_PAYER = ("lncli", "--lnddir=/root/payer", "--rpcserver=127.0.0.1:10010", "--no-macaroons", "--network=regtest")
_PAYER_OPTIONS = (
    "--lnddir=/root/payer",
    "--configfile=/root/payer.conf",
    "--noseedbackup",
    "--no-macaroons",
    "--norest",
    "--listen=127.0.0.1:9737",
    "--rpclisten=127.0.0.1:10010",
)


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
    found = json.loads(inside(NAME, "btcpayserver", *words, deadline=300))
    return [(status, answer) for status, answer in found["answers"]], found["seconds"]


def bitcoin(*words: str) -> str:
    return inside(NAME, "bitcoind", "bitcoin-cli", *words)


def mine(count: int, address: str = "") -> None:
    verb = ("generatetoaddress", str(count), address) if address else ("generatetodescriptor", str(count), "raw(51)")
    bitcoin(*verb)


def start(person: Person, *more: str) -> dict[str, Any]:
    return dict(json.loads(person.succeeds("-d", NAME, "stack", "start", *STACKS, *more, "--json")))


def payer(*words: str) -> dict[str, Any]:
    found = inside(NAME, "lnd", "sh", "-c", '"$@" 2>&1 || true', "sh", *_PAYER, *words, deadline=120)
    return json.loads(found) if found.startswith("{") else {"error": found}


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
        until(lambda: self.status(invoice) == status, f"the invoice is {status}", _PATIENCE)


@pytest.fixture(scope="module")
def report(
    person: Person, relays: tornet.TorNetwork, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """A shop with a Lightning node, and the page that lists it."""
    folder = tmp_path_factory.mktemp("images")
    person.datacenter(NAME)
    settings = json.loads(clightning.environment(folder)["BCM_TEST_SETTINGS"])
    settings |= {"btcpayserver_shop": True, "tor_network": True, "tor_lines": relays.lines}
    with person.settings(NAME).open("a") as file:
        file.write("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    warnings = start(person)["warnings"]
    assert any("lnd waits for blocks" in warning for warning in warnings)
    mine(1)
    until(lambda: "SERVER_ACTIVE" in inside(NAME, "lnd", "lncli", "state"), "lnd has all blocks", _PATIENCE)
    yield start(person)
    person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


@pytest.fixture(scope="module")
def shop(person: Person, report: dict[str, Any]) -> Shop:
    return Shop(person)


@pytest.fixture(scope="module")
def channel(shop: Shop) -> None:
    """Another lnd with a channel to the shop's."""
    options = " ".join(_PAYER_OPTIONS)
    unit = f"systemd-run --quiet --unit=payer lnd {options}"
    lines = "^(bitcoin\\.(regtest|node)|bitcoind\\.)"
    inside(NAME, "lnd", "sh", "-c", f"grep -E '{lines}' /etc/lnd/lnd.conf > /root/payer.conf; {unit}")
    until(lambda: bool(payer("getinfo").get("synced_to_chain")), "the payer follows bitcoind", _PATIENCE)
    mine(101, payer("newaddress", "p2wkh")["address"])
    until(lambda: int(payer("walletbalance").get("confirmed_balance", 0)) > 0, "the payer has coins", _PATIENCE)
    node = json.loads(inside(NAME, "lnd", "lncli", "getinfo"))
    place = inside(NAME, "lnd", "sh", "-c", "sed -n 's/^listen=//p' /etc/lnd/lnd.conf")
    until(
        lambda: "error" not in payer("connect", f"{node['identity_pubkey']}@{place}")
        or bool(payer("listpeers").get("peers")),
        "the payer reaches the shop's node",
        _PATIENCE,
    )
    opened: dict[str, Any] = {}

    def opens() -> bool:
        opened.update(payer("openchannel", node["identity_pubkey"], "1000000"))
        return "funding_txid" in opened

    until(opens, "a channel is opened", _PATIENCE)
    mine(6)
    until(lambda: any(item["active"] for item in payer("listchannels").get("channels", [])), "a channel", _PATIENCE)


def test_run_proves_both_and_the_second_changes_nothing(person: Person, report: dict[str, Any]) -> None:
    stacks = reported(json.dumps(report))
    assert stacks["nbxplorer"]["facts"]["height"] == stacks["bitcoind"]["facts"]["height"]
    assert stacks["btcpayserver"]["verified"] == PROVED
    assert stacks["ridethelightning"]["facts"] == {"nodes": ["lnd"], "height": stacks["bitcoind"]["facts"]["height"]}
    assert person.succeeds("-d", NAME, "stack", "start", *STACKS).rstrip().endswith("nothing changed")
    page = inside(NAME, "portal", "sh", "-c", "cat /var/lib/portal/page/*.html")
    assert "BTCPay Server" in page and "Ride The Lightning" in page


def test_invoice_is_paid_on_chain(shop: Shop, channel: None) -> None:
    invoice = shop.invoice("0.001")
    assert payer("sendcoins", f"--addr={invoice['BTC-CHAIN']}", "--amt=100000", "--sat_per_vbyte=2").get("txid")
    shop.settles(invoice, "Processing")
    mine(1)
    shop.settles(invoice)


def test_invoice_is_paid_by_lightning(shop: Shop, channel: None) -> None:
    invoice = shop.invoice("0.00012345")
    status, page = ask("GET", f"/i/{invoice['id']}")
    assert status == 200 and "0.00012345" in page and invoice["BTC-LN"] in page
    said = payer("payinvoice", "--force", "--json", invoice["BTC-LN"])
    assert said.get("status") == "SUCCEEDED", said
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


def test_pages_load_nothing_from_elsewhere(person: Person, shop: Shop, driver: str, tmp_path: Path) -> None:
    """What somebody adds to a page, such as a logo, is not asked for: the policy of the TLS proxy forbids it."""
    invoice = shop.invoice("0.0001")
    with opened(person, NAME, driver, "btcpayserver", tmp_path) as page:
        until(lambda: page.title == "Sign in", "the page that asks for the password", _PATIENCE)
        own = page.url.removesuffix("/login")
        page.open(f"{own}/i/{invoice['id']}")
        assert "0.0001" in page.text and invoice["BTC-LN"] in page.text
        assert page.sources <= {own}
        assert page.forbids(f"https://{ELSEWHERE}/logo.png")


def test_only_the_administrator_makes_users(shop: Shop) -> None:
    body = {"email": "second@example.org", "password": "a long password", "isAdministrator": True}
    assert ask("POST", "/api/v1/users", body)[0] == 401
    assert ask("POST", "/api/v1/users", {**body, "isAdministrator": False})[0] == 401
    assert ask("GET", "/register")[0] == 302
    assert ask("POST", "/api/v1/users", body, shop.login)[0] == 201
    assert ask("GET", "/api/v1/users/me", login="second@example.org:a long password")[1]["roles"] == ["ServerAdmin"]


def test_two_hundred_invoices_are_made_in_a_minute(shop: Shop) -> None:
    body = {"amount": "0.00001", "currency": "BTC"}
    answers, seconds = ask_often(200, "POST", f"{shop.store}/invoices", body, shop.key)
    assert [status for status, _text in answers] == [200] * 200
    assert len({json.loads(text)["id"] for _status, text in answers}) == 200
    assert seconds < 60


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


def test_payments_that_came_while_a_node_restarted_are_seen(shop: Shop, channel: None) -> None:
    lightning, chain = shop.invoice("0.00003"), shop.invoice("0.0005")
    inside(NAME, "btcpayserver", "systemctl", "stop", "btcpayserver")
    assert payer("payinvoice", "--force", "--json", lightning["BTC-LN"]).get("status") == "SUCCEEDED"
    inside(NAME, "nbxplorer", "systemctl", "stop", "nbxplorer")
    assert payer("sendcoins", f"--addr={chain['BTC-CHAIN']}", "--amt=50000", "--sat_per_vbyte=2").get("txid")
    mine(1)
    inside(NAME, "bitcoind", "systemctl", "restart", "bitcoind", deadline=300)
    inside(NAME, "nbxplorer", "systemctl", "start", "nbxplorer", deadline=300)
    inside(NAME, "btcpayserver", "systemctl", "start", "btcpayserver", "btcpayserver-web", deadline=300)
    until(lambda: ask("GET", "/api/v1/health")[1] == {"synchronized": True}, "it is synced again", _PATIENCE)
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
    person: Person, shop: Shop, report: dict[str, Any], relays: tornet.TorNetwork, tmp_path: Path
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
    assert tornet.refusal(relays, places["shop"]) == "was let in"


def test_lnd_may_restart_with_another_certificate(person: Person, shop: Shop) -> None:
    person.succeeds("-d", NAME, "ca", "renew", "lnd")
    person.succeeds("-d", NAME, "stack", "restart", "lnd")
    until(lambda: set(shop.invoice("0.0001")) == {"id", "BTC-CHAIN", "BTC-LN"}, "invoices by Lightning", _PATIENCE)
    stacks = reported(json.dumps(start(person)))
    assert stacks["btcpayserver"]["verified"] == PROVED
    assert stacks["ridethelightning"]["facts"]["nodes"] == ["lnd"]


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


class Hook(http.server.BaseHTTPRequestHandler):
    """What a shop of somebody else does with the events that it is sent."""

    heard: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append((self.client_address[0], event))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@contextmanager
def listening() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """The URL of somebody in the world who wants to hear of invoices, and what was heard: from where, and the event."""
    handler = type("Handler", (Hook,), {"heard": []})
    subprocess.run(["ip", "address", "replace", f"{ELSEWHERE}/32", "dev", "lo"], check=True)
    try:
        with http.server.ThreadingHTTPServer((ELSEWHERE, 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            try:
                yield f"http://{ELSEWHERE}:{server.server_address[1]}/hook", handler.heard
            finally:
                server.shutdown()
                thread.join()
    finally:
        subprocess.run(["ip", "address", "delete", f"{ELSEWHERE}/32", "dev", "lo"], check=True)


def test_webhooks_leave_through_tor_if_the_inventory_says_so(person: Person, shop: Shop) -> None:
    def deliveries() -> list[tuple[str, str]]:
        found = ask("GET", f"{shop.store}/webhooks/{hook}/deliveries", login=shop.key)[1]
        return [(item["status"], item["errorMessage"]) for item in found]

    with listening() as (url, heard), capturing(f"{NAME}-r", f"{NAME}-r-up") as capture:
        hook = ask("POST", f"{shop.store}/webhooks", {"url": url}, shop.key)[1]["id"]
        shop.invoice("0.0001")
        until(lambda: len(deliveries()) == 1, "a delivery", _PATIENCE)
        assert deliveries() == [("Failed", "[Errno 111] Connection refused")], "nothing is sent by itself"
        person.succeeds("-d", NAME, "config", "set", "btcpayserver_outside=true")
        found = reported(json.dumps(start(person)))["btcpayserver"]
        assert "it asks for exchange rates, and calls webhooks, through Tor" in found["verified"]
        invoice = shop.invoice("0.0001")
        until(lambda: any(event["invoiceId"] == invoice["id"] for _source, event in heard), "a webhook", _PATIENCE)
        assert {source for source, _event in heard} == {RELAYS}
        assert not [packet for packet in capture.seen() if f" {ELSEWHERE}:" in packet]
        assert [packet for packet in capture.seen() if f" {RELAYS}:" in packet]
