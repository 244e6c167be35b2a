# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is verified of NBXplorer, and what is not taken for right. tests/e2e has one at work."""

from __future__ import annotations

import copy
import json
import runpy
from typing import Any

import pytest
from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, Waiting

from tests.support import COLLECTION

VERIFY = COLLECTION / "roles/nbxplorer/scripts/verify.py"


def looked(monkeypatch: pytest.MonkeyPatch, needs: dict[str, Any], **said: Any) -> tuple[list[str], list[str]]:
    """Notes and warnings, if it says this of Liquid."""
    monkeypatch.setattr("bcm_guest.prove.prove", lambda look: None)
    asked = {"/v1/cryptos/lbtc/status": (200, json.dumps(said))}
    monkeypatch.setattr("bcm_guest.prove.http_request", lambda _place, path, credentials: asked[path])
    found: tuple[list[str], list[str]] = runpy.run_path(str(VERIFY))["look_at_liquid"](
        Stack({"needs": needs}, {}, {}), None
    )
    return found


def test_second_chain_is_reported_if_it_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, {"liquid": {}}, isFullySynched=True, syncHeight=7) == (["height 7 of Liquid"], [])
    assert looked(monkeypatch, {}) == ([], [])


def test_second_chain_that_lacks_blocks_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bitcoins are taken meanwhile."""
    notes, warnings = looked(monkeypatch, {"liquid": {}}, isFullySynched=False, syncHeight=None)
    assert notes == [] and "its payments are seen later" in warnings[0]


BTC = "/v1/cryptos/btc/status"
COOKIE = "__cookie__:that of the shop"
STACK = Stack(
    {
        "stack": "nbxplorer",
        "address": "10.0.0.2",
        "services": {"http": {"port": 24446, "listen": "127.0.0.1", "tls": "server"}},
        "needs": {"bitcoind": {"rpc": {"address": "10.0.0.3", "port": 18443, "tls": None}}},
        "consumers": {"shop": {"services": ["http"]}, "portal": {"services": []}},
    },
    {"bitcoind/rpc/nbxplorer": "own", "nbxplorer/http/shop": "that of the shop"},
    {"port": "8080"},
)
#: NBXplorer behind its proxy, and bitcoind, as they should be
RIGHT: dict[str, Any] = {
    "cookies": [COOKIE],
    "status": {"isFullySynched": True, "syncHeight": 101, "version": "2.6.10"},
    "getblockchaininfo": {"initialblockdownload": False, "headers": 101, "blocks": 101},
    "getpeerinfo": [
        {"subver": "/Satoshi:31.1.0/", "permissions": []},
        {"subver": "/NBXplorer:2.6.10/", "permissions": ["noban", "download"]},
    ],
}


class World:
    """What NBXplorer and bitcoind answer."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said

    def ask(self, place: Endpoint, path: str = "", credentials: str = "") -> tuple[int, str]:
        assert path == BTC
        if place.tls and credentials not in self.said["cookies"]:
            return 401, ""
        return self.said.get("http", 200), json.dumps(self.said["status"])

    def call(self, _place: Endpoint, method: str, credentials: str) -> Any:
        assert credentials == "nbxplorer:own"
        return self.said[method]


def verified(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Report:
    """The report on a world with changes to what it says, each of which replaces, or adds to a mapping."""
    said = copy.deepcopy(RIGHT)
    for name, change in changes.items():
        said[name] = {**said[name], **change} if isinstance(change, dict) else change
    world = World(said)
    monkeypatch.setattr("bcm_guest.prove.prove", lambda look: None)
    monkeypatch.setattr("bcm_guest.prove.http_request", world.ask)
    monkeypatch.setattr("bcm_guest.prove.json_rpc", world.call)
    found: Report = runpy.run_path(str(VERIFY))["look"](STACK)
    return found


def test_synced_tracker_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = verified(monkeypatch)
    assert (found.facts, found.notes, found.warnings) == (
        {"height": 101, "version": "2.6.10"}, ["height 101"], [],
    )  # fmt: skip


PEER = {"subver": "/NBXplorer:2.6.10/", "permissions": ["download"]}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"cookies": ["", COOKIE]}, Lasting, "answers a request without a stack's cookie with status 200"),
        ({"cookies": ["__cookie__:", COOKIE]}, Lasting, "without a stack's cookie"),
        ({"cookies": [f"__cookie__:{'0' * 64}", COOKIE]}, Lasting, "without a stack's cookie"),
        ({"cookies": []}, Fault, "it answers with status 401"),
        ({"http": 500}, Fault, "it answers with status 500"),
        ({"getpeerinfo": RIGHT["getpeerinfo"][:1]}, Fault, "bitcoind has no connection from it"),
        ({"getpeerinfo": [PEER]}, Lasting, "bitcoind may ban it: its address is not in bitcoind's whitelist"),
        ({"getblockchaininfo": {"initialblockdownload": True}}, Waiting, "bitcoind has 101 of 101 blocks"),
        ({"getblockchaininfo": {"headers": 108}}, Waiting, "bitcoind has 101 of 108 blocks"),
        ({"status": {"isFullySynched": False, "syncHeight": 7}}, Fault, "not synced: it has read up to 7 of 101"),
        ({"status": {"syncHeight": None}}, Fault, "not synced: it has read up to None of 101"),
        ({"status": {"syncHeight": 100}}, Fault, "its height is 100, bitcoind's is 101"),
    ],
)
def test_what_is_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], kind: type[Fault], message: str
) -> None:
    with pytest.raises(Fault, match=message) as raised:
        verified(monkeypatch, **changes)
    assert raised.type is kind
