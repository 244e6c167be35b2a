# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ride The Lightning, Spark and Lightning Charge in a browser, on a Core Lightning that has a channel with lnd.

Only with the real programs, since their doubles have neither pages nor coins; CONTRIBUTING.md says how to give them.
The doubles are deployed by the scenarios of the roles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.forward import Destination, socks_proxy
from tests import browser, clightning, node_programs, ridethelightning, tornet
from tests.e2e.conftest import Person, client, inside, opened, quiet, reported
from tests.e2e.test_lightning import bitcoin, lncli, reached
from tests.support import ROOT, until

pytestmark = [
    pytest.mark.containers,
    pytest.mark.whole,
    pytest.mark.skipif(
        not (clightning.ARCHIVE and ridethelightning.ARCHIVE),
        reason="the doubles have no pages and no coins: set BCM_CLIGHTNING_ARCHIVE and BCM_RIDETHELIGHTNING_ARCHIVE, "
        "see CONTRIBUTING",
    ),
]

programs = pytest.mark.skipif(
    not node_programs.REAL, reason="the doubles have no pages: set BCM_NODE_PROGRAMS, see CONTRIBUTING"
)

NAME = "ride"
_ASK = (Path(__file__).parent / "programs/shop.py").read_text()
PROGRAMS = ("lightning-charge", "spark")
CAPACITY = 1_000_000  # satoshi
HERS = 600_000  # of them, after the other side was given the rest
ELSEWHERE = "https://198.51.100.7/logo.png"
#: what the style of Lightning Charge asks for; Chromium lists what a policy has refused, too
FONTS = "https://fonts.googleapis.com"
UP = "Your node is up and running."


def cli(*words: str) -> dict[str, Any]:
    return dict(json.loads(inside(NAME, "clightning", "lightning-cli", *words)))


@pytest.fixture(scope="module")
def addresses(
    person: Person, relays: tornet.TorNetwork, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The onion address of each stack whose pages are seen, of a data center with a channel between its two nodes."""
    person.datacenter(NAME)
    given = json.loads(clightning.environment(tmp_path_factory.mktemp("releases"))["BCM_TEST_SETTINGS"])
    given |= {"tor_network": True, "tor_lines": relays.lines, "ridethelightning_node": "clightning"}
    with person.settings(NAME).open("a") as settings:
        settings.writelines(f"{name}: {json.dumps(value)}\n" for name, value in given.items())
    try:
        stacks = ["lnd", "clightning", "ridethelightning", *(PROGRAMS if node_programs.REAL else ())]
        found = reported(person.succeeds("-d", NAME, "stack", "start", *stacks, "--json"))
        person.succeeds("-d", NAME, "lightning", "fund", "clightning")
        open_channel()
        yield {stack: item["onions"][0]["address"].partition(":")[0] for stack, item in found.items() if item["onions"]}
    finally:
        person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


def open_channel() -> None:
    until(lambda: reached(NAME, int(bitcoin(NAME, "getblockcount"))), "blocks in lnd")
    key, _at, place = lncli(NAME, "getinfo")["uris"][0].partition("@")
    until(
        lambda: sum(item["amount_msat"] for item in cli("listfunds")["outputs"] if item["status"] == "confirmed") > 0,
        "coins",
    )  # fmt: skip
    connect = f"lightning-cli connect {key} {place.replace(':', ' ')} || true"
    until(lambda: f'"id": "{key}"' in inside(NAME, "clightning", "sh", "-c", connect), "peers")
    given = (CAPACITY - HERS) * 1000
    cli("-k", "fundchannel", f"id={key}", f"amount={CAPACITY}", f"push_msat={given}", "feerate=1000perkw")
    bitcoin(NAME, "generatetodescriptor", "6", "raw(51)")

    def usable() -> bool:
        states = [(item["state"], item["peer_connected"]) for item in cli("listpeerchannels")["channels"]]
        return states == [("CHANNELD_NORMAL", True)] and lncli(NAME, "channelbalance")["balance"] != "0"

    until(usable, "a channel")


@pytest.fixture(scope="module")
def password(person: Person, addresses: dict[str, str]) -> str:
    return person.succeeds("-d", NAME, "secret", "show", "ridethelightning/password").split()[-1]


def log_in(page: browser.Browser, password: str) -> None:
    until(lambda: page.run("return document.querySelector('#password') !== null"), "the login page")
    page.types("#password", password)
    page.clicks("Login")
    until(lambda: UP in page.text, "the page of the node")


def choose(page: browser.Browser, title: str) -> None:
    """Follow an item of the menu."""
    found = "[...document.querySelectorAll('mat-sidenav span, mat-sidenav a, mat-tree-node')].filter(item => "
    page.run(f"{found}item.textContent.trim() == {json.dumps(title)}).pop().click()")


def shows(page: browser.Browser, satoshi: int) -> bool:
    return f"{satoshi:,} Sats" in page.text


def test_invoice_is_paid_in_the_browser_of_bcm_open(
    person: Person, password: str, driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    keep = request.config.getoption("--pages")
    with opened(person, NAME, driver, "ridethelightning", tmp_path) as page:
        page.show_as(1280, 900, "light")
        log_in(page, password)
        until(lambda: shows(page, HERS), "the balance of the channel")
        if keep:
            (ROOT / keep / "ridethelightning-desktop.png").write_bytes(page.picture())
        own = page.url.partition("/rtl")[0]
        assert page.sources == {own}
        made = lncli(NAME, "addinvoice", "--amt", "5000")
        choose(page, "Lightning")
        until(lambda: "Transactions" in page.text, "the menu of Lightning")
        choose(page, "Transactions")
        until(lambda: "Send Payment" in page.text, "the page of payments")
        page.clicks("Send Payment")
        until(lambda: page.run("return document.querySelector('textarea') !== null"), "the form of a payment")
        page.types("textarea", made["payment_request"])
        until(lambda: "5,000" in page.text, "what the invoice says")
        page.clicks("Send Payment")
        until(lambda: lncli(NAME, "lookupinvoice", made["r_hash"])["state"] == "SETTLED", "the payment")
        assert page.sources == {own}
        assert page.forbids(ELSEWHERE)


@contextmanager
def through_tor(
    person: Person, addresses: dict[str, str], driver: str, relays: tornet.TorNetwork, stack: str, folder: Path
) -> Iterator[browser.Browser]:
    """A browser whose Tor has a key for the onion address of a stack, which nobody reaches without one."""
    onion, file = addresses[stack], folder / "alice.auth_private"
    person.succeeds("-d", NAME, "access", "grant", "alice", stack, "--out", str(file))
    visitor = tornet.Client(relays, f"visitor-of-{stack}", file.read_text())
    visitor.tor.bootstrapped()
    visitor.connected(onion).close()
    proxy = f"--proxy-server=socks5://127.0.0.1:{visitor.port}"
    options = (f"--user-data-dir={folder}/profile", proxy, "--disable-features=HttpsUpgrades")
    with quiet(NAME):
        page = browser.started(driver, *options)
        try:
            page.show_as(360, 800, "light")
            yield page
            assert page.sources <= {f"http://{onion}", *([FONTS] if stack == "lightning-charge" else [])}
            assert page.forbids(ELSEWHERE)
        finally:
            page.close()
    assert tornet.NO_KEY in tornet.refusal(relays, onion)


def test_balance_is_seen_through_tor_with_a_key(
    person: Person, addresses: dict[str, str], password: str, driver: str, relays: tornet.TorNetwork, tmp_path: Path
) -> None:
    with through_tor(person, addresses, driver, relays, "ridethelightning", tmp_path) as page:
        page.open(f"http://{addresses['ridethelightning']}/rtl/login")
        log_in(page, password)
        until(lambda: shows(page, HERS - 5000), "the balance after the payment")


# -- Spark ------------------------------------------------------------------------------------------------------------


def in_channel() -> str:
    """What Spark's first page says of the channel: what is Core Lightning's, in bits of 100 satoshi."""
    (channel,) = cli("listpeerchannels")["channels"]
    return f"{channel['to_us_msat'] / 100_000:,.2f}".rstrip("0").rstrip(".") + " bits in 1 channel"


def log_in_to_spark(person: Person, page: browser.Browser, url: str) -> None:
    """As a person who types name and password where the browser asks for them."""
    password = quote(person.succeeds("-d", NAME, "secret", "show", "spark/password").strip(), safe="")
    page.open(url.replace("://", f"://bcm:{password}@"))
    page.open(url)
    until(lambda: in_channel() in page.text, "Spark's balance")


@programs
def test_invoice_is_paid_in_the_browser_with_spark(
    person: Person, addresses: dict[str, str], driver: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with opened(person, NAME, driver, "spark", tmp_path) as page:
        page.show_as(1280, 900, "light")
        own = page.url.removesuffix("/")
        log_in_to_spark(person, page, f"{own}/")
        made = lncli(NAME, "addinvoice", "--amt", "2000", "--memo", "Tea")
        page.run("location.hash = '#/payreq'")
        until(lambda: page.run("return document.querySelector('textarea') !== null"), "the form of a payment")
        page.types("textarea", made["payment_request"])
        page.clicks("Decode request")
        until(lambda: "Tea" in page.text and "Pay 20\xa0bits" in page.text, "what the invoice says")
        page.clicks("Pay 20\xa0bits")
        until(lambda: lncli(NAME, "lookupinvoice", made["r_hash"])["state"] == "SETTLED", "the payment")
        page.open(f"{own}/")
        until(lambda: in_channel() in page.text, "the balance after the payment")
        until(lambda: "-20\xa0bits" in page.text, "the payment in the list")
        if keep := request.config.getoption("--pages"):
            (ROOT / keep / "spark-desktop.png").write_bytes(page.picture())
        assert page.sources == {own}
        assert page.forbids(ELSEWHERE)


@programs
def test_spark_shows_the_balance_through_tor(
    person: Person, addresses: dict[str, str], driver: str, relays: tornet.TorNetwork, tmp_path: Path
) -> None:
    with through_tor(person, addresses, driver, relays, "spark", tmp_path) as page:
        log_in_to_spark(person, page, f"http://{addresses['spark']}/")


# -- Lightning Charge -------------------------------------------------------------------------------------------------


def charge(person: Person, satoshi: int) -> dict[str, Any]:
    """An invoice of a shop, whose customer gets its page."""
    token = person.succeeds("-d", NAME, "secret", "show", "lightning-charge/token").strip()
    wanted = {"msatoshi": f"{satoshi}000", "description": "Tea", "metadata": {"checkout": {"title": "A cup of tea"}}}
    words = ("127.0.0.1:9112", "POST", "/invoice", json.dumps(wanted), f"api-token:{token}")
    found = json.loads(inside(NAME, "lightning-charge", "python3", "-c", _ASK, *words))
    ((status, text),) = found["answers"]
    assert status == 201, text
    return dict(json.loads(text))


def pay_on_page(page: browser.Browser, url: str, invoice: dict[str, Any], picture: Path | None = None) -> None:
    """Pay an invoice with lnd while its page is open, which says so by itself."""
    page.open(f"{url}/checkout/{invoice['id']}")
    until(lambda: "A cup of tea" in page.text and invoice["payreq"] in page.text, "the page of the invoice")
    assert page.run("return document.querySelector('.qr img').naturalWidth") > 0
    if picture:
        picture.write_bytes(page.picture())
    assert lncli(NAME, "payinvoice", "--force", "--json", invoice["payreq"])["status"] == "SUCCEEDED"
    until(lambda: "Your payment has been received" in page.text, "what the page says of the payment")


@pytest.fixture
def trusting(person: Person, addresses: dict[str, str], tmp_path: Path) -> Path:
    """A browser of somebody who has installed the root of the data center."""
    person.succeeds("-d", NAME, "ca", "export", str(tmp_path / "root"))
    (root,) = (tmp_path / "root").glob("*.crt")
    return browser.trusting(tmp_path, root)


@programs
def test_customer_sees_the_payment_on_the_page_of_lightning_charge(
    person: Person, trusting: Path, driver: str, request: pytest.FixtureRequest
) -> None:
    keep = request.config.getoption("--pages")
    picture = ROOT / keep / "lightning-charge-desktop.png" if keep else None
    with client(NAME) as lxd:
        address = lxd.get("/1.0/instances/lightning-charge")["devices"]["eth0"]["ipv4.address"]
        there = {(address, 9112): Destination("lightning-charge", f"{address}:9112")}
        with quiet(NAME), socks_proxy(lxd, there) as port:
            args = [*browser.HEADLESS, f"--proxy-server=socks5://127.0.0.1:{port}"]
            page = browser.Browser(driver, {"args": args, "binary": str(trusting)})
            try:
                page.show_as(1280, 900, "light")
                pay_on_page(page, f"https://{address}:9112", charge(person, 3000), picture)
                assert page.sources <= {f"https://{address}:9112", FONTS}
                assert page.forbids(f"{FONTS}/logo.png")
            finally:
                page.close()


@programs
def test_customer_pays_through_tor(
    person: Person, addresses: dict[str, str], driver: str, relays: tornet.TorNetwork, tmp_path: Path
) -> None:
    with through_tor(person, addresses, driver, relays, "lightning-charge", tmp_path) as page:
        pay_on_page(page, f"http://{addresses['lightning-charge']}", charge(person, 4000))


# -- Ride The Lightning, after changes --------------------------------------------------------------------------------


def test_revoked_credential_is_replaced_by_the_next_run(person: Person, addresses: dict[str, str]) -> None:
    person.succeeds("-d", NAME, "secret", "rotate", "clightning/rest/ridethelightning")
    found = reported(person.succeeds("-d", NAME, "stack", "start", "ridethelightning", "--json"))
    assert found["ridethelightning"]["facts"]["nodes"] == ["clightning"]


@pytest.mark.parametrize("change", [("stack", "restart", "clightning"), ("ca", "renew", "clightning")])
def test_node_may_restart_and_have_another_certificate(
    person: Person, addresses: dict[str, str], change: tuple[str, ...]
) -> None:
    person.succeeds("-d", NAME, *change)
    person.succeeds("-d", NAME, "stack", "start", "clightning")
    found = reported(person.succeeds("-d", NAME, "stack", "start", "ridethelightning", "--json"))
    assert found["ridethelightning"]["facts"]["height"] == int(bitcoin(NAME, "getblockcount"))


def test_other_node_is_shown_if_the_inventory_says_so(
    person: Person, addresses: dict[str, str], password: str, driver: str, tmp_path: Path
) -> None:
    settings = person.settings(NAME)
    text = re.sub("^ridethelightning_node: .*$", "ridethelightning_node: lnd", settings.read_text(), flags=re.M)
    settings.write_text(text)
    person.succeeds("-d", NAME, "stack", "start", "ridethelightning")
    with opened(person, NAME, driver, "ridethelightning", tmp_path) as page:
        log_in(page, password)
        until(lambda: shows(page, int(lncli(NAME, "channelbalance")["balance"])), "the balance of lnd")


def test_nothing_leaves_but_through_tor(person: Person, addresses: dict[str, str]) -> None:
    report = json.loads(person.succeeds("-d", NAME, "privacy", "--json"))
    assert report["problems"] == []
