# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Onion services by hand: what is told of them without any LXD, and what is refused. tests/e2e has the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.qr import code, drawn
from ansible_collections.bcm.core.plugins.module_utils._tor import onion_keys
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Service
from ansible_collections.bcm.core.plugins.module_utils._tor.services_file import ServicesFile
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import AnsibleVault
from tests.cli.conftest import Checkout, Safe
from tests.cli.test_vault import password

ELECTRUM = Service(
    "electrs-electrum", onion_keys.new_key(), {50002: ("192.0.2.1:50002",)}, clients={"alice": onion_keys.new_client()}
)
P2P = Service("bitcoind-p2p", onion_keys.new_key(), {8333: ("192.0.2.2:8333",)}, authorization=False)
OTHER = Service("spark-web", onion_keys.new_key(), {80: ("192.0.2.3:80",)}, clients={"bob": onion_keys.new_client()})


@pytest.fixture
def store(checkout: Checkout) -> ServicesFile:
    return kept(checkout, ELECTRUM, P2P)


def kept(checkout: Checkout, *services: Service) -> ServicesFile:
    store = ServicesFile(checkout.home / "inventories/local/secrets", "regtest")
    with store.locked():
        store.write(services)
    return store


def test_services_are_listed_without_secrets(checkout: Checkout, store: ServicesFile) -> None:
    done = checkout.bcm("onion", "list")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["service", "address", "ports", "clients", "published"],
        ["electrs-electrum", ELECTRUM.key.address, "50002", "alice", "-"],
        ["bitcoind-p2p", P2P.key.address, "8333", "public", "-"],
    ]
    assert "bcm: Cannot read which services are published: " in done.stderr
    (first, second) = json.loads(checkout.bcm("onion", "list", "--json").stdout)["services"]
    assert first == {
        "service": "electrs-electrum",
        "address": ELECTRUM.key.address,
        "ports": [{"port": 50002, "targets": ["192.0.2.1:50002"]}],
        "authorization": True,
        "clients": ["alice"],
        "published": None,
    }
    assert second["authorization"] is False


def test_missing_services_are_reported(checkout: Checkout, safe: Safe) -> None:
    assert (checkout.bcm("onion", "list").stdout, checkout.bcm("onion", "list").stderr) == ("none\n", "")
    # nobody is asked to open what is not there
    assert safe.bcm("onion", "list").stdout == "none\n"
    for verb in ("authorize", "revoke"):
        done = safe.bcm("onion", verb, "alice")
        assert (done.returncode, done.stdout) == (1, "")
        assert "Data center home (signet) has no onion services yet: `bcm stack start STACK`" in done.stderr
    assert safe.confirmed() == []


def test_service_is_shown_with_settings_for_programs(checkout: Checkout, store: ServicesFile) -> None:
    done = checkout.bcm("onion", "show", "electrs-electrum")
    assert done.returncode == 0
    address = ELECTRUM.key.address
    assert f"electrum --oneserver --server {address}:50002:t --proxy socks5:127.0.0.1:9050" in done.stdout
    assert "Tor Browser: Open http://" in done.stdout
    assert ELECTRUM.clients["alice"].text not in done.stdout
    assert "\033" not in done.stdout
    terminal = checkout.terminal("onion", "show", "electrs-electrum")
    terminal.reads("Its address:\n" + drawn(code(address))[0])
    assert terminal.ends() == 0


def test_authorized_client_is_shown_the_same_key(checkout: Checkout, store: ServicesFile, tmp_path: Path) -> None:
    """Also while tor cannot be asked."""
    key = ELECTRUM.clients["alice"]
    done = checkout.bcm("onion", "authorize", "alice", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["service"], told["key"]) == ("electrs-electrum", key.text)
    assert told["auth_private"] + "\n" == key.client_line(ELECTRUM.key.address)
    assert "alice is already authorized for electrs-electrum: this is the same key" in done.stderr
    file = tmp_path / "alice.auth_private"
    done = checkout.bcm("onion", "authorize", "alice", "--output", str(file))
    assert done.returncode == 0
    assert (file.read_text(), file.stat().st_mode & 0o777) == (key.client_line(ELECTRUM.key.address), 0o600)
    assert key.text not in done.stdout + done.stderr
    terminal = checkout.terminal("onion", "authorize", "alice")
    terminal.reads(key.text)
    terminal.reads("The key:\n" + drawn(code(key.text))[0])
    assert terminal.ends() == 0
    done = checkout.bcm("onion", "authorize", "alice", "--output", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file} exists already: name another file" in done.stderr


@pytest.mark.parametrize("words", [["authorize", "bob"], ["revoke", "alice", "--yes"]])
def test_nothing_is_changed_if_tor_is_out_of_reach(checkout: Checkout, store: ServicesFile, words: list[str]) -> None:
    before = store.path.read_text()
    done = checkout.bcm("onion", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no-lxd" in done.stderr
    assert store.path.read_text() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show electrs-elctrum", 'Unknown onion service "electrs-elctrum": did you mean "electrs-electrum"?'),
        ("authorize alice electrum", 'Unknown onion service "electrum": did you mean "electrs-electrum"?'),
        ("authorize alice", "Say which onion service alice may reach: electrs-electrum or spark-web"),
        ("authorize Alice spark-web", 'Client "Alice" cannot be called that: use at most 63 lower-case'),
        ("authorize alice --output /no/such/folder/file", "cannot be created: name a file in a folder"),
        ("revoke alicf", 'Unknown client "alicf": did you mean "alice"? Known clients: alice, bob'),
        ("revoke alice spark-web", 'Unknown client "alice": Known clients: bob'),
    ],
)
def test_unknown_names_are_refused(checkout: Checkout, words: str, said: str) -> None:
    kept(checkout, ELECTRUM, P2P, OTHER)
    done = checkout.bcm("onion", *words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_public_service_has_no_clients(checkout: Checkout, store: ServicesFile) -> None:
    done = checkout.bcm("onion", "authorize", "alice", "bitcoind-p2p")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Onion service bitcoind-p2p is public and has no clients" in done.stderr


def test_nothing_is_revoked_without_consent(checkout: Checkout, store: ServicesFile) -> None:
    terminal = checkout.terminal("onion", "revoke", "alice")
    terminal.reads("all clients are disconnected for some seconds")
    terminal.reads("Revoke the key of alice, for good? [y/N] ")
    terminal.types("n\n")
    assert terminal.ends() == 1
    assert "Nothing was revoked" in terminal.output


def test_device_opens_the_vault_once(safe: Safe) -> None:
    safe.root()
    store = ServicesFile(safe.secrets, "signet", vault=AnsibleVault("home", password(safe.double).encode()))
    with store.locked():
        store.write([ELECTRUM])
    safe.confirmed()
    for words in (["list"], ["authorize", "alice"]):
        done = safe.bcm("onion", *words)
        assert (done.returncode, ELECTRUM.key.address in done.stdout) == (0, True), done.stderr
        assert safe.confirmed() == ["Enter passphrase", "bcm vault home"]
