# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Core Lightning in one data center and lnd in another, on a real Tor network.

Without an archive of Core Lightning, its double takes its place, and the tests marked ``real`` are left out: it has
neither peers nor coins. CONTRIBUTING.md says how to give one.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import clightning
from tests.e2e.conftest import FIRST, SECOND, Pair, Person, inside, reported, until
from tests.e2e.test_lightning import bitcoin, lncli
from tests.record_clightning import DIRECTORY, WORDS, moved, recorded

pytestmark = [pytest.mark.containers, pytest.mark.whole]
real = pytest.mark.skipif(
    not clightning.ARCHIVE,
    reason="the double of Core Lightning has no peers: set BCM_CLIGHTNING_ARCHIVE, see CONTRIBUTING",
)

PATIENCE = 300.0
CAPACITY = 1_000_000  # satoshi
DATABASE, REPLICA = f"{DIRECTORY}/lightningd.sqlite3", "/var/lib/clightning-backup/lightningd.sqlite3"


def cli(*words: str, deadline: float = 120) -> dict[str, Any]:
    return dict(json.loads(inside(FIRST, "clightning", "lightning-cli", *words, deadline=deadline)))


def start(person: Person, *words: str) -> str:
    return person.succeeds("-d", FIRST, "stack", "start", "clightning", *words)


def sh(script: str) -> str:
    return inside(FIRST, "clightning", "sh", "-c", script, deadline=120)


@pytest.fixture(scope="module")
def node(person: Person, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the first start reports of a node whose recovery words are known. Other tests find no trace of it."""
    former = person.settings(FIRST).read_text()
    secrets = person.home / "inventories" / FIRST / "secrets/regtest.json"
    secrets.write_text(json.dumps({**json.loads(secrets.read_text()), "clightning/recovery_words": WORDS}))
    with person.settings(FIRST).open("a") as file:
        for name, value in clightning.settings(tmp_path_factory.mktemp("releases")).items():
            file.write(f"{name}: {json.dumps(value)}\n")
    yield reported(start(person, "--json"))["clightning"]
    person.succeeds("-d", FIRST, "stack", "remove", "clightning", "--delete-data")
    person.settings(FIRST).write_text(former)


def test_node_announces_its_onion_address_alone(person: Person, node: dict[str, Any]) -> None:
    (onion,) = node["onions"]
    (shown,) = (
        item
        for item in json.loads(person.succeeds("-d", FIRST, "lightning", "status", "--json"))["nodes"]
        if item["stack"] == "clightning"
    )
    assert shown["addresses"] == [f"{node['facts']['public_key']}@{onion['address']}"]
    assert person.succeeds("-d", FIRST, "lightning-cli", "getinfo").startswith("{")


def test_double_answers_as_the_program(node: dict[str, Any]) -> None:
    """Byte for byte, except for the bytes of an encryption, which are others each time."""
    found = recorded(FIRST)
    if os.environ.get("BCM_RECORD") and clightning.ARCHIVE:
        clightning.RECORDINGS.write_text(json.dumps(found, indent=1) + "\n")
    known = json.loads(clightning.RECORDINGS.read_text())
    expected = {**moved(known, found["place"]), "emergency.recover": found["emergency.recover"]}
    assert found == expected


def test_second_run_changes_nothing(person: Person, node: dict[str, Any]) -> None:
    assert "nothing changed" in start(person)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("clightning/recovery_words", None, "its volume has a wallet, and the secrets have no recovery words of it"),
        ("clightning/public_key", "02" * 33, "its volume has the wallet of another node"),
    ],
)
def test_secrets_of_another_wallet_are_refused(
    person: Person, node: dict[str, Any], name: str, value: str | None, fault: str
) -> None:
    file = person.home / "inventories" / FIRST / "secrets/regtest.json"
    right = file.read_text()
    values = {key: item for key, item in json.loads(right).items() if key != name}
    try:
        file.write_text(json.dumps(values if value is None else {**values, name: value}))
        refused = person.types("-d", FIRST, "stack", "start", "clightning")
        assert (refused.returncode, fault in refused.stdout + refused.stderr) == (2, True)
    finally:
        file.write_text(right)
    assert cli("getinfo")["id"] == node["facts"]["public_key"]


def refused(person: Person, *words: str) -> str:
    done = person.types("-d", FIRST, "stack", "start", "clightning", *words)
    assert done.returncode == 2
    return done.stdout + done.stderr


# -- with peers -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(person: Person, node: dict[str, Any], pair: Pair) -> str:
    """The key and address of the lnd in the other data center, which has the same blocks."""
    onion = pair.onions[SECOND]["bitcoind"]
    if onion not in [item["addednode"] for item in json.loads(bitcoin(FIRST, "getaddednodeinfo"))]:
        bitcoin(FIRST, "addnode", onion, "add")
    person.succeeds("-d", SECOND, "stack", "start", "lnd")
    address = cli("newaddr", "p2tr")["p2tr"]
    bitcoin(FIRST, "generatetoaddress", "101", address)
    until(lambda: lnd_height() == height(), "blocks in the other data center", PATIENCE)
    return str(lncli(SECOND, "getinfo")["uris"][0])


def height() -> int:
    return int(bitcoin(FIRST, "getblockcount"))


def lnd_height() -> int:
    found = inside(SECOND, "lnd", "sh", "-c", "lncli getinfo || true")
    return int(json.loads(found)["block_height"]) if found.startswith("{") else 0


def mine(count: int) -> None:
    bitcoin(FIRST, "generatetodescriptor", str(count), "raw(51)")
    # lightningd looks for blocks every 30 seconds.
    until(lambda: lnd_height() == height() == cli("getinfo")["blockheight"], "blocks in both nodes", PATIENCE)


def channel() -> dict[str, Any]:
    (found,) = cli("listpeerchannels")["channels"]
    return dict(found)


def usable() -> bool:
    """Whether the channel is open, and the other side is there."""
    found = sh("lightning-cli listpeerchannels || true")
    channels = json.loads(found)["channels"] if found.startswith("{") else []
    return [(item["state"], item["peer_connected"]) for item in channels] == [("CHANNELD_NORMAL", True)]


@pytest.fixture(scope="module")
def opened(node: dict[str, Any], other: str) -> str:
    """A channel that Core Lightning opened to lnd; half of it is lnd's. Its funding transaction."""
    key, _at, address = other.partition("@")
    until(
        lambda: sum(item["amount_msat"] for item in cli("listfunds")["outputs"] if item["status"] == "confirmed") > 0,
        "coins",
        PATIENCE,
    )
    until(
        lambda: f'"id": "{key}"' in sh(f"lightning-cli connect {key} {address.replace(':', ' ')} || true"),
        "a connection",
        PATIENCE,
    )
    funded = cli("-k", "fundchannel", f"id={key}", f"amount={CAPACITY}", f"push_msat={CAPACITY * 500}")
    mine(6)
    until(usable, "a channel", PATIENCE)
    return str(funded["txid"])


def pay_lnd(amount: int) -> None:
    """It is tried again, while the other side has yet to learn of the channel."""
    invoice = lncli(SECOND, "addinvoice", "--amt", str(amount))["payment_request"]
    until(lambda: '"payment_preimage"' in sh(f"lightning-cli xpay {invoice} || true"), "a payment to lnd", PATIENCE)


def pay_clightning(amount: int) -> None:
    label = f"coffee{time.time_ns()}"
    invoice = cli("-k", "invoice", f"amount_msat={amount * 1000}", f"label={label}", "description=a_payment")["bolt11"]
    paid = lncli(SECOND, "payinvoice", "--force", "--json", str(invoice))
    assert paid["status"] == "SUCCEEDED"
    assert cli("-k", "listinvoices", f"label={label}")["invoices"][0]["status"] == "paid"


@real
def test_invoices_are_paid_both_ways(opened: str) -> None:
    for pay, amount in ((pay_lnd, 5000), (pay_clightning, 7000)):
        began = time.monotonic()
        pay(amount)
        print(f"{pay.__name__}: {amount} sat in {time.monotonic() - began:.2f} s")


@real
def test_channel_survives_a_kill(opened: str) -> None:
    inside(FIRST, "clightning", "systemctl", "kill", "--signal=KILL", "clightning")
    until(usable, "the channel after a kill", PATIENCE)
    pay_lnd(1000)


@real
def test_consumer_has_a_rune_of_its_own(person: Person, opened: str, tmp_path: Path) -> None:
    """Its verify program makes an invoice, and is refused all else."""
    shutil.copytree(Path(__file__).parent / "stacks/counter", tmp_path / "counter")
    person.succeeds("-d", FIRST, "config", "set", f"stack_path={tmp_path}")
    made = reported(person.succeeds("-d", FIRST, "stack", "start", "counter", "--json"))
    assert (
        lncli(SECOND, "payinvoice", "--force", "--json", made["counter"]["facts"]["invoice"])["status"] == "SUCCEEDED"
    )
    rune = inside(FIRST, "counter", "cat", "/etc/counter/rune")
    stack = tmp_path / "counter/meta/stack.yml"
    stack.write_text(stack.read_text().replace("[invoice]", "[invoice, listinvoices]"))
    person.succeeds("-d", FIRST, "stack", "start", "counter")
    assert inside(FIRST, "counter", "cat", "/etc/counter/rune") != rune
    assert runes() == {rune: True, inside(FIRST, "counter", "cat", "/etc/counter/rune"): False}
    assert "nothing changed" in person.succeeds("-d", FIRST, "stack", "start", "counter")
    person.succeeds("-d", FIRST, "stack", "remove", "counter")
    start(person)
    assert set(runes().values()) == {True}


def runes() -> dict[str, bool]:
    """All runes, and whether they are revoked."""
    return {item["rune"]: bool(item.get("blacklisted")) for item in cli("showrunes")["runes"]}


@real
def test_old_database_is_not_used(person: Person, opened: str) -> None:
    """An old copy of the volume, put back by hand, would lose the channel."""
    sh(f"systemctl stop clightning && cp -a {DATABASE} {DATABASE}.old && cp -a {REPLICA} {REPLICA}.old")
    start(person)
    until(usable, "the channel", PATIENCE)
    pay_lnd(1000)
    start(person)
    sh(f"systemctl stop clightning && cp -a {DATABASE} {DATABASE}.good && cp -a {DATABASE}.old {DATABASE}")
    assert "is older than its replica" in refused(person)
    sh(f"systemctl stop clightning && rm {DATABASE} {DIRECTORY}/hsm_secret && cp -a {REPLICA} {REPLICA}.good")
    sh(f"cp -a {REPLICA}.old {REPLICA}")
    assert "is an old copy" in refused(person, "-e", "clightning_restore=true")
    sh(f"mv {REPLICA}.good {REPLICA} && rm -f {DATABASE}.* {REPLICA}.*")
    start(person, "-e", "clightning_restore=true")
    until(usable, "the channel", PATIENCE)


@real
def test_channel_stays_open_when_the_volume_is_lost(person: Person, node: dict[str, Any], opened: str) -> None:
    before = channel()
    sh("systemctl stop clightning && rm -r /var/lib/clightning/*")
    assert "its wallet, created 20" in refused(person)
    began = time.monotonic()
    start(person, "-e", "clightning_restore=true")
    print(f"restored in {time.monotonic() - began:.1f} s")
    assert cli("getinfo")["id"] == node["facts"]["public_key"]
    until(usable, "the channel", PATIENCE)
    after = channel()
    assert (after["funding_txid"], after["to_us_msat"]) == (opened, before["to_us_msat"])
    pay_lnd(2000)
    pay_clightning(3000)


def test_nothing_left_for_anything_but_a_relay(pair: Pair, node: dict[str, Any]) -> None:
    assert pair.strange() == {}
