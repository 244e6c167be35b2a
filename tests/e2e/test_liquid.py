# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements beside the chain of a data center: coins of our own bitcoind come in, once they are deep enough.

Without an archive of Elements there is only its double, which has no wallets: the collection's scenario deploys that.
CONTRIBUTING.md says how to give one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests import liquid
from tests.e2e.conftest import Person, inside, reported
from tests.record_liquid import moved, recorded
from tests.support import Tools, until

pytestmark = [
    pytest.mark.containers,
    pytest.mark.whole,
    pytest.mark.skipif(
        not liquid.ARCHIVE,
        reason="the double of Elements has no wallets: set BCM_ELEMENTS_ARCHIVE, see CONTRIBUTING",
    ),
]

NAME = "peg"
#: how deep coins have to be, and the block that they are in
DEPTH = 8


def bitcoin(*words: str) -> str:
    return inside(NAME, "bitcoind", "bitcoin-cli", *words)


def pay(address: str) -> str:
    """Send a bitcoin there; nobody has paid fees on this chain from which one could be estimated."""
    return bitcoin("-named", "sendtoaddress", f"address={address}", "amount=1", "fee_rate=2")


def elements(person: Person, *words: str) -> Any:
    output = person.succeeds("-d", NAME, "elements-cli", *words)
    return json.loads(output) if output[:1] in ("{", "[") else output.strip()


@pytest.fixture(scope="module")
def node(person: Person, lxd_tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the first start reports."""
    person.datacenter(NAME)
    folder = tmp_path_factory.mktemp("elements")
    settings = {"bcm_artifact_source": str(folder), "bcm_artifacts": {"liquid": liquid.pin(folder)}}
    with person.settings(NAME).open("a") as file:
        for name, value in settings.items():
            file.write(f"{name}: {json.dumps(value)}\n")
    refused = person.types("-d", NAME, "stack", "start", "liquid")
    assert refused.returncode != 0
    assert "unbacked coins" in refused.stdout + refused.stderr
    with person.settings(NAME).open("a") as file:
        file.write("allow_below_floor: [liquid]\n")
    try:
        yield reported(person.succeeds("-d", NAME, "stack", "start", "liquid", "--json"))["liquid"]
    finally:
        person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


def test_double_answers_as_the_program(node: dict[str, Any]) -> None:
    found = recorded(NAME)
    if os.environ.get("BCM_RECORD"):
        liquid.RECORDINGS.write_text(json.dumps(found, indent=1) + "\n")
    assert found == moved(json.loads(liquid.RECORDINGS.read_text()), found["proxy"])


def test_second_run_changes_nothing(person: Person, node: dict[str, Any]) -> None:
    assert "nothing changed" in person.succeeds("-d", NAME, "stack", "start", "liquid")


def test_coins_come_in_once_they_are_deep_enough(person: Person, node: dict[str, Any]) -> None:
    bitcoin("createwallet", "payer")
    bitcoin("generatetoaddress", "101", bitcoin("getnewaddress"))
    elements(person, "createwallet", "mine")
    peg = elements(person, "getpeginaddress")
    transaction = pay(peg["mainchain_address"])
    mine(DEPTH)
    proof = bitcoin("gettxoutproof", json.dumps([transaction]))
    claim = (json.loads(bitcoin("gettransaction", transaction))["hex"], proof, peg["claim_script"])
    early = person.types("-d", NAME, "elements-cli", "claimpegin", *claim)
    assert early.returncode != 0
    # Elements claims coins two blocks after others accept them.
    assert "needs more confirmations" in early.stderr, early.stderr
    mine(2)
    claimed = elements(person, "claimpegin", *claim)
    elements(person, "generatetoaddress", "1", elements(person, "getnewaddress"))
    assert elements(person, "gettransaction", claimed)["confirmations"] == 1
    assert 0.999 < elements(person, "getbalance")["bitcoin"] < 1


def test_another_asset_is_issued_and_shown(person: Person, node: dict[str, Any]) -> None:
    issued = elements(person, "issueasset", "100", "1")
    elements(person, "generatetoaddress", "1", elements(person, "getnewaddress"))
    balance = elements(person, "getbalance")
    assert balance[issued["asset"]] == 100
    assert balance[issued["token"]] == 1


def test_coins_are_not_taken_from_a_bitcoind_that_is_gone(person: Person, node: dict[str, Any]) -> None:
    """A block with such coins waits until bitcoind is back."""
    peg = elements(person, "getpeginaddress")
    transaction = pay(peg["mainchain_address"])
    mine(DEPTH + 2)
    proof = bitcoin("gettxoutproof", json.dumps([transaction]))
    claim = (json.loads(bitcoin("gettransaction", transaction))["hex"], proof, peg["claim_script"])
    inside(NAME, "bitcoind", "systemctl", "stop", "bitcoind")
    refused = person.types("-d", NAME, "elements-cli", "claimpegin", *claim)
    assert refused.returncode != 0
    inside(NAME, "bitcoind", "systemctl", "start", "bitcoind")
    until(lambda: person.types("-d", NAME, "elements-cli", "claimpegin", *claim).returncode == 0, "the coins are taken")


def test_wallet_is_found_again_after_a_restart(person: Person, node: dict[str, Any]) -> None:
    before = elements(person, "getbalance")
    person.succeeds("-d", NAME, "stack", "restart", "liquid")
    elements(person, "loadwallet", "mine")
    assert elements(person, "getbalance") == before


def mine(count: int) -> None:
    bitcoin("generatetodescriptor", str(count), "raw(51)")
