# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two Lightning nodes in two data centers, on a real Tor network: they meet at onion addresses, and pay each other."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import FIRST, SECOND, Pair, Person, inside, reported, until

pytestmark = [pytest.mark.containers, pytest.mark.whole]

PATIENCE = 300.0
CAPACITY = 1_000_000  # satoshi
PAYMENTS = 200


def lncli(name: str, *words: str) -> dict[str, Any]:
    return dict(json.loads(inside(name, "lnd", "lncli", *words, deadline=120)))


def bitcoin(name: str, *words: str) -> str:
    return inside(name, "bitcoind", "bitcoin-cli", *words)


def mine(name: str, count: int) -> None:
    """Blocks that both nodes have in the end."""
    bitcoin(name, "generatetodescriptor", str(count), "raw(51)")
    await_height(int(bitcoin(name, "getblockcount")))


def await_height(height: int) -> None:
    until(lambda: all(reached(node, height) for node in (FIRST, SECOND)), f"height {height} in both nodes", PATIENCE)


def reached(name: str, height: int) -> bool:
    """Whether a node is at that height; it may not be at work yet."""
    found = inside(name, "lnd", "sh", "-c", "lncli getinfo || true")
    info = json.loads(found) if found.startswith("{") else {}
    return info.get("block_height") == height and bool(info["synced_to_chain"])


@pytest.fixture(scope="module")
def nodes(person: Person, pair: Pair) -> dict[str, str]:
    """The key and onion address of each, as other nodes are told."""
    other = pair.onions[SECOND]["bitcoind"]
    if other not in [node["addednode"] for node in json.loads(bitcoin(FIRST, "getaddednodeinfo"))]:
        bitcoin(FIRST, "addnode", other, "add")
    has_blocks = bitcoin(FIRST, "getblockcount") != "0"
    for name in (FIRST, SECOND):
        started = json.loads(person.succeeds("-d", name, "stack", "start", "lnd", "--json"))
        assert any("mines some" in warning for warning in started["warnings"]) != has_blocks
    person.succeeds("-d", FIRST, "lightning", "fund")
    await_height(int(bitcoin(FIRST, "getblockcount")))
    return {name: lncli(name, "getinfo")["uris"][0] for name in (FIRST, SECOND)}


@pytest.fixture(scope="module")
def channel(nodes: dict[str, str]) -> str:
    """The transaction of a channel that the first opened; half of it belongs to the other."""
    until(lambda: coins(FIRST) > 2 * CAPACITY, "coins", PATIENCE)
    until(lambda: connected(nodes[SECOND]), "a connection", PATIENCE)
    key = nodes[SECOND].partition("@")[0]
    opened = lncli(FIRST, "openchannel", key, str(CAPACITY), str(CAPACITY // 2))
    mine(FIRST, 6)
    until(lambda: all(active(name) and announced(name) for name in (FIRST, SECOND)), "an active channel", PATIENCE)
    return str(opened["funding_txid"])


def connected(uri: str) -> bool:
    inside(FIRST, "lnd", "sh", "-c", f"lncli connect {shlex.quote(uri)} || true", deadline=120)
    return [peer["pub_key"] for peer in lncli(FIRST, "listpeers")["peers"]] == [uri.partition("@")[0]]


def coins(name: str) -> int:
    return int(lncli(name, "walletbalance")["confirmed_balance"])


def active(name: str) -> bool:
    return [item["active"] for item in lncli(name, "listchannels")["channels"]] == [True]


def announced(name: str) -> bool:
    """Whether it knows the fees of both ends, without which there is no route."""
    edges = lncli(name, "describegraph")["edges"]
    return [bool(edge["node1_policy"] and edge["node2_policy"]) for edge in edges] == [True]


def balance(name: str) -> int:
    (channel,) = lncli(name, "listchannels")["channels"]
    return int(channel["local_balance"])


def test_nodes_announce_their_onion_addresses_alone(nodes: dict[str, str]) -> None:
    for name, uri in nodes.items():
        key, _at, address = uri.partition("@")
        assert lncli(name, "getinfo")["uris"] == [uri]
        assert (len(key), address.endswith(".onion:9735")) == (66, True)


def test_second_volume_has_the_backup_of_a_new_channel(channel: str) -> None:
    for name in (FIRST, SECOND):
        found = lncli(name, "verifychanbackup", "--multi_file", "/var/lib/lnd-backup/channel.backup")
        assert [point.partition(":")[0] for point in found["chan_points"]] == [channel]


def test_invoices_are_paid_both_ways(channel: str) -> None:
    for payer, payee, amount in ((FIRST, SECOND, 5000), (SECOND, FIRST, 7000)):
        before = balance(payee)
        invoice = lncli(payee, "addinvoice", "--amt", str(amount))["payment_request"]
        began = time.monotonic()
        paid = lncli(payer, "payinvoice", "--force", "--json", invoice)
        assert paid["status"] == "SUCCEEDED"
        print(f"{amount} sat from {payer} to {payee}: {time.monotonic() - began:.2f} s")
        until(lambda payee=payee, due=before + amount: balance(payee) == due, "the amount")  # type: ignore[misc]


def test_many_payments_arrive(channel: str) -> None:
    """Eight at a time."""
    before = balance(SECOND)
    make = f"for n in $(seq {PAYMENTS}); do lncli addinvoice --amt 100 | jq -r .payment_request; done"
    make = make.replace("jq -r .payment_request", "sed -n 's/.*\"payment_request\": *\"\\(.*\\)\".*/\\1/p'")
    invoices = inside(SECOND, "lnd", "sh", "-c", make, deadline=300).split()
    assert len(set(invoices)) == PAYMENTS
    began = time.monotonic()
    pay = "xargs -P 8 -n 1 lncli payinvoice --force --json >/dev/null"
    inside(FIRST, "lnd", "sh", "-c", f"printf '%s\\n' {' '.join(invoices)} | {pay}", deadline=900)
    print(f"{PAYMENTS} payments: {time.monotonic() - began:.1f} s")
    until(lambda: balance(SECOND) == before + 100 * PAYMENTS, "all amounts")


def test_wallet_opens_by_itself(person: Person, nodes: dict[str, str], channel: str) -> None:
    """After a kill, and once the machine starts again."""
    inside(FIRST, "lnd", "systemctl", "kill", "--signal=KILL", "lnd")
    until(lambda: quietly_active(FIRST), "an active channel after a kill", PATIENCE)
    person.succeeds("-d", FIRST, "stack", "restart", "lnd")
    until(lambda: quietly_active(FIRST), "an active channel after a restart", PATIENCE)
    assert lncli(FIRST, "getinfo")["uris"] == [nodes[FIRST]]


def quietly_active(name: str) -> bool:
    """Whether its channel is active, while lnd may not answer yet."""
    found = inside(name, "lnd", "sh", "-c", "lncli listchannels || true")
    return found.startswith("{") and [item["active"] for item in json.loads(found)["channels"]] == [True]


def test_second_run_changes_nothing(person: Person, channel: str) -> None:
    # The first run came before the node was at work, and could not know its key.
    person.succeeds("-d", FIRST, "stack", "start", "lnd")
    assert "nothing changed" in person.succeeds("-d", FIRST, "stack", "start", "lnd")


def macaroons(name: str) -> list[str]:
    """The root keys of macaroons, without lnd's own."""
    return [key for key in lncli(name, "listmacaroonids")["root_key_ids"] if key != "0"]


def test_consumer_has_a_macaroon_of_its_own(person: Person, channel: str, tmp_path: Path) -> None:
    """Its verify program makes an invoice, and is refused all else."""
    shutil.copytree(Path(__file__).parent / "stacks/till", tmp_path / "till")
    person.succeeds("-d", FIRST, "config", "set", f"stack_path={tmp_path}")
    made = reported(person.succeeds("-d", FIRST, "stack", "start", "till", "--json"))
    invoice = made["till"]["facts"]["invoice"]
    assert lncli(SECOND, "payinvoice", "--force", "--json", invoice)["status"] == "SUCCEEDED"
    first, macaroon = macaroons(FIRST), inside(FIRST, "till", "cat", "/etc/till/macaroon")
    assert len(first) == 1

    stack = tmp_path / "till/meta/stack.yml"
    stack.write_text(stack.read_text().replace("[invoices:write]", "[invoices:write, message:write]"))
    person.succeeds("-d", FIRST, "stack", "start", "till")
    assert inside(FIRST, "till", "cat", "/etc/till/macaroon") != macaroon
    assert len(macaroons(FIRST)) == 1 and macaroons(FIRST) != first
    assert "nothing changed" in person.succeeds("-d", FIRST, "stack", "start", "till")

    person.succeeds("-d", FIRST, "stack", "remove", "till")
    person.succeeds("-d", FIRST, "stack", "start", "lnd")
    assert macaroons(FIRST) == []


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("lnd/recovery_words", None, "its volume has a wallet, and the secrets have no recovery words of it"),
        ("lnd/public_key", "02" * 33, "its volume has the wallet of another node"),
    ],
)
def test_secrets_of_another_wallet_are_refused(
    person: Person, channel: str, name: str, value: str | None, fault: str
) -> None:
    file = person.home / "inventories" / FIRST / "secrets/regtest.json"
    right = file.read_text()
    values = {key: item for key, item in json.loads(right).items() if key != name}
    try:
        file.write_text(json.dumps(values if value is None else {**values, name: value}))
        refused = person.types("-d", FIRST, "stack", "start", "lnd")
        assert (refused.returncode, fault in refused.stdout + refused.stderr) == (2, True)
    finally:
        file.write_text(right)
    assert active(FIRST)


def test_wallet_that_is_gone_is_not_replaced(person: Person, nodes: dict[str, str], channel: str) -> None:
    """Coins on chain come back with the recovery words, those in channels with the channel backup."""
    key = nodes[SECOND].partition("@")[0]
    # An option that is not among the fixed ones.
    with person.settings(SECOND).open("a") as settings:
        settings.write("lnd_options: {bitcoin.timelockdelta: 90}\n")
    address = lncli(SECOND, "newaddress", "p2tr")["address"]
    lncli(FIRST, "sendcoins", address, "300000")
    mine(FIRST, 1)
    until(lambda: coins(SECOND) == 300_000, "coins", PATIENCE)
    in_channel = balance(SECOND)
    inside(SECOND, "lnd", "sh", "-c", "systemctl stop lnd && rm -r /var/lib/lnd/.lnd")
    refused = person.types("-d", SECOND, "stack", "start", "lnd")
    assert refused.returncode == 2
    assert "its wallet, created 20" in refused.stdout + refused.stderr
    person.succeeds("-d", SECOND, "stack", "start", "lnd", "-e", "lnd_restore=true")
    assert lncli(SECOND, "getinfo")["identity_pubkey"] == key
    until(lambda: coins(SECOND) == 300_000, "coins from the words", PATIENCE)
    # The other side has closed the channel, as lnd asked it to, and pays what it owed.
    until(lambda: len(lncli(FIRST, "pendingchannels")["waiting_close_channels"]) > 0, "the close", PATIENCE)

    def swept() -> bool:
        bitcoin(FIRST, "generatetodescriptor", "1", "raw(51)")
        return coins(SECOND) > 300_000

    until(swept, "coins from the channel", PATIENCE)
    fees = 300_000 + in_channel - coins(SECOND)
    print(f"{in_channel} sat were in the channel; their way back cost {fees} sat")
    assert 0 <= fees < 50_000


def test_nothing_left_for_anything_but_a_relay(pair: Pair, channel: str) -> None:
    assert pair.strange() == {}
