# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is masked in logs, by examples that others have published, and what has to stay."""

from __future__ import annotations

import secrets
import time

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.secret_masks import MASK, mask

#: BIP 32, test vector 1, chain m; and the same key of BIP 49 and BIP 84
XPRV = (
    "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi"
)
TPRV = (
    "tprv8ZgxMBicQKsPe5YMU9gHen4Ez3ApihUfykaqUorj9t6FDqy3nP6eoXiAo2ssvpAjoLroQxHqr3R5nE3a5dU3DHTjTgJDd7zrbniJr6nrCzd"
)
#: of the wiki of Bitcoin, "Wallet import format"
WIF = "5Kb8kLf9zgWQnogidDA76MzPL6TsZZY36hWXMssSzNydYXYB9KF"
#: BIP 39, the vectors of its reference
WORDS = "abandon " * 11 + "about"
MORE_WORDS = (
    "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple "
    "dilemma loan word shrug inflict delay length"
)
#: of the documentation of Core Lightning, lightning-commando-rune
RUNE = "KUhZzNlECC7pYsz3QVbF1TqjIUYi3oyESTI7n60hLMs9MA=="
#: as lnd makes them: version 2, a location, an identifier
MACAROON = "0201036c6e6402f801030a10" + "1f2e3d4c5b6a79880102030405060708" * 8
MACAROON_TEXT = "AgEDbG5kAvgBAwoQtV8pX9ZzXfjWxmqMqQjB8xIBMBoWCgdhZGRyZXNzEgRyZWFkEgV3cml0ZQ"
#: of the specification of tor's control port, ADD_ONION
ONION_KEY = "GP8mYEVj0ByHKqMr8Iza5W0p9WP1cJS3mrCZl9fDTBf3ddPoMWUTtpGEYTH5xmOnYtLXSTCkkJhT9EP8kAFpnA=="
CLIENT_KEY = "SBT6DTUUGFWZ4RVEPDLKTTRFTXGYGIYCJCOSMWKIWHXKOLVNGX6A"


@pytest.mark.parametrize(
    "secret",
    [XPRV, TPRV, WIF, WORDS, MORE_WORDS, RUNE, MACAROON, MACAROON.upper(), MACAROON_TEXT, ONION_KEY],
)
def test_published_example_of_a_secret_is_masked(secret: str) -> None:
    for text in ("{}", "it has {}", "it has '{}', and more", "key={};"):
        found = mask(text.format(secret))
        # Of words before those of a wallet, nobody knows that they are none.
        assert MASK in found and set(found.replace(MASK, "").split()) <= set(text.format("").split())


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        # bitcoind's documentation of -proxy and of its JSON-RPC
        ("http://alice:correct+horse@127.0.0.1:8332/", "http://alice:[masked]@127.0.0.1:8332/"),
        ("postgres://nbxplorer:p:w@10.0.0.1/db", "postgres://nbxplorer:[masked]@10.0.0.1/db"),
        ("rpcpassword=hunter2 rpcuser=me", "rpcpassword=[masked] rpcuser=me"),
        ('{"password": "hunter2", "user": "me"}', '{"password": "[masked]", "user": "me"}'),
        ("Authorization: Basic YWxhZGRpbjpvcGVuc2VzYW1l", "Authorization: Basic [masked]"),
        ("authorization: Bearer mF_9.B5f-4.1JqM", "authorization: Bearer [masked]"),
        ("__cookie__:" + "0123456789abcdef" * 4, "__cookie__:[masked]"),
        ("preimage=" + "0123456789abcdef" * 4, "preimage=[masked]"),
        (f"alice:descriptor:x25519:{CLIENT_KEY}", "alice:descriptor:x25519:[masked]"),
        ("ADD_ONION ED25519-V3:" + ONION_KEY, "ADD_ONION ED25519-V3:[masked]"),
        ("1. abandon  2. amount " * 6, "[masked] "),
        ("walletpassphrase: openup", "walletpassphrase: [masked]"),
    ],
)
def test_only_the_secret_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_every_secret_of_a_stack_is_masked() -> None:
    for _one in range(2000):
        secret = secrets.token_urlsafe(32)
        assert secret not in mask(f"rpc user collector:{secret} is refused")


@pytest.mark.parametrize(
    "text",
    [
        # a block, a transaction, and the addresses of BIP 173 and BIP 350
        "UpdateTip: new best=000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f height=0 version=0x1",
        "bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3",
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        # a node, and the onion service of the Tor Project
        "03864ef025fde8fb587d989186ce6a4a186895ee44a926bfc370e2c366597a3f8f@203.0.113.1:9735",
        "2gzyxa5ihm7nsggfxnu52rck2vt4rvmdlkiu3zzui5du4xyclen53wid.onion:443",
        "/var/lib/lnd/data/chain/bitcoin/regtest/consumers/collector-and-all-the-others",
        "Started systemd-journal-catalog-update-and-what-else.service - Rebuild Journal Catalog.",
        "Bootstrapped 100% (done): Done",
        "org.apache.kafka.coordinator.group.GroupCoordinatorService",
        "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8",
        "Opened wallet, and the passphrase is not needed any more, so this goes on as it did before that",
        "the token expired; the seed phrase was shown",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize("text", ["a" * 4096, "abc " * 1024, "1 abc " * 700, "Aa-" * 1365, "://" * 1365, "=" * 4096])
def test_longest_message_takes_no_time(text: str) -> None:
    began = time.process_time()
    mask(text)
    assert time.process_time() - began < 5
