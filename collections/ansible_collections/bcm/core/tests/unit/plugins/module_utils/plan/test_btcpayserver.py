# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a shop: what it needs, which Lightning node it has, who reaches it, and what it reaches."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan import checks
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.plan import Planner
from ansible_collections.bcm.core.plugins.module_utils._plan.request import ProjectState, Request, Site
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables

from .conftest import Planning, image_names

BEHIND = {"tor", "bitcoind", "nbxplorer", "postgresql"}
_CATALOGUE = Catalogue.read([])


@pytest.fixture(autouse=True)
def without_assertions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of other stacks use filters of the collection, which are not loaded here."""
    monkeypatch.setattr(checks, "check_assertions", lambda *_stacks: None)


def plan(*stacks: str, chain: str = "regtest", **variables: Any) -> dict[str, Any]:
    loader = DataLoader()
    request = Request(stacks=("btcpayserver", *stacks), chain=chain, datacenter="local")
    known = {"bcm": {"chain": chain}, "allow_below_floor": ["clightning"], **variables}
    planner = Planner(_CATALOGUE, request, lambda asked: RoleVariables(Templar(loader), loader, asked, known))
    return Planning(planner).plan(ProjectState(), image_names)


def reached(planned: dict[str, Any], stack: str = "btcpayserver") -> set[str]:
    """What the network lets it reach."""
    acl = next(item for item in planned["resources"] if item["kind"] == "network_acl")
    rules = {rule["description"] for rule in acl["egress"]}
    return {rule.removeprefix(f"{stack} to ") for rule in rules if rule.startswith(f"{stack} to ")}


def test_shop_needs_a_tracker_and_a_database_and_no_lightning_node() -> None:
    planned = plan()
    assert set(planned["stacks"]) == {*BEHIND, "btcpayserver"}
    assert reached(planned) == {"nbxplorer http", "postgresql sql"}
    assert "btcpayserver/password" in planned["secrets"] and "nbxplorer/http/btcpayserver" in planned["secrets"]
    assert planned["instances"]["btcpayserver"]["credentials"] == ["postgresql/sql/btcpayserver"]


@pytest.mark.parametrize(("chosen", "other"), [("lnd", "clightning"), ("clightning", "lnd")])
def test_shop_has_the_chosen_node_if_that_is_there(chosen: str, other: str) -> None:
    both = plan("lnd", "clightning", btcpayserver_lightning=chosen)
    assert f"{chosen} rest" in reached(both) and f"{other} rest" not in reached(both)
    assert f"{chosen}/rest/btcpayserver" in both["instances"]["btcpayserver"]["credentials"]
    assert f"{other}/rest/btcpayserver" not in both["instances"]["btcpayserver"]["credentials"]
    alone = plan(other, btcpayserver_lightning=chosen)
    assert reached(alone) == {"nbxplorer http", "postgresql sql"}
    assert set(alone["stacks"]) == {*BEHIND, "btcpayserver", other}


@pytest.mark.parametrize(
    ("node", "payments"),
    [
        ("lnd", {"offchain:write", "onchain:write", "address:write", "macaroon:generate", "peers:write"}),
        ("clightning", {"pay", "xpay", "keysend", "withdraw", "fundchannel", "createrune", "newaddr"}),
    ],
)
def test_shop_can_neither_pay_nor_send(node: str, payments: set[str]) -> None:
    planned = plan(node, btcpayserver_lightning=node)
    (given,) = planned["instances"][node]["consumers"]["btcpayserver"]["permissions"].values()
    assert given and not payments & set(given)


def test_unknown_node_is_refused() -> None:
    with pytest.raises(BcmError, match='Variable btcpayserver_lightning: Unknown choice "none"'):
        plan(btcpayserver_lightning="none")


def test_customers_have_an_address_of_their_own_if_the_inventory_says_so() -> None:
    def public(**variables: Any) -> dict[str, str | None]:
        onions = plan(**variables)["instances"]["btcpayserver"]["onions"]
        return {key: item["public"] for key, item in onions.items()}

    assert public() == {"http": None}
    assert public(btcpayserver_shop=True) == {"http": None, "shop": "customers pay there"}
    assert public(btcpayserver_shop=True, btcpayserver_onion=False) == {"shop": "customers pay there"}


def asked(planned: dict[str, Any]) -> set[str]:
    """The rules of the network with which it reaches tor's proxy."""
    acl = next(item for item in planned["resources"] if item["kind"] == "network_acl")
    tor = planned["instances"]["tor"]["address"]
    own = planned["instances"]["btcpayserver"]["address"]
    ends = (f"{own}/32", f"{tor}/32")
    return {rule["description"] for rule in acl["egress"] if (rule["source"], rule["destination"]) == ends}


def test_others_are_asked_by_exception_alone() -> None:
    silent = plan()
    assert not asked(silent) and not silent["through_tor"]
    assert silent["instances"]["btcpayserver"]["needs"]["tor"] == {}
    talking = plan(btcpayserver_rates=["api.kraken.com"], btcpayserver_webhooks="a.example.org, 192.0.2.1")
    assert talking["through_tor"] == [
        {"stack": "btcpayserver", "to": "api.kraken.com", "why": "exchange rates"},
        {"stack": "btcpayserver", "to": "a.example.org", "why": "webhooks"},
        {"stack": "btcpayserver", "to": "192.0.2.1", "why": "webhooks"},
    ]
    assert talking["instances"]["btcpayserver"]["through_tor"] == talking["through_tor"]
    # There is a rule for each, and no other way out.
    assert asked(talking) == {
        f"{item['stack']} through Tor to {item['to']}: {item['why']}" for item in talking["through_tor"]
    }
    assert "socks" in talking["instances"]["btcpayserver"]["needs"]["tor"]
    assert not talking["instances"]["btcpayserver"]["uplink"] and not talking["exceptions"]


@pytest.mark.parametrize(
    "hosts", ["https://api.kraken.com", 7, ["a.org", "https://b.org"], ["a b.org"], ["*.org"], [f"{'x.' * 127}org"]]
)
def test_what_is_no_list_of_hosts_is_refused(hosts: Any) -> None:
    with pytest.raises(BcmError, match=r"Variable btcpayserver_rates is .*: write a list of names"):
        plan(btcpayserver_rates=hosts)


def test_liquid_is_followed_on_mainnet_if_it_is_there() -> None:
    planned = plan("liquid", chain="mainnet")
    assert {"liquid rpc", "liquid p2p"} <= reached(planned, "nbxplorer")
    # The shop reaches it by the tracker alone.
    assert reached(planned) == {"nbxplorer http", "postgresql sql"}
    assert planned["instances"]["btcpayserver"]["needs"]["liquid"] == {}
    assert "liquid/rpc/nbxplorer" in planned["secrets"]
    allowed = planned["instances"]["liquid"]["consumers"]["nbxplorer"]["permissions"]["rpc_calls"]
    assert "unblindrawtransaction" in allowed
    assert not {"sendtoaddress", "dumpprivkey", "sethdseed", "walletpassphrase", "listwallets"} & set(allowed)


@pytest.mark.parametrize(("stacks", "chain"), [((), "mainnet"), (("liquid",), "signet"), (("liquid",), "regtest")])
def test_liquid_is_left_out_elsewhere(stacks: tuple[str, ...], chain: str) -> None:
    planned = plan(*stacks, chain=chain)
    assert not [rule for rule in reached(planned, "nbxplorer") if rule.startswith("liquid")]
    assert "liquid" not in planned["instances"]["btcpayserver"]["needs"]


@pytest.mark.parametrize(
    ("access", "reason"),
    [
        ({}, _CATALOGUE["btcpayserver"].services["shop"].onion.public),
        ({"btcpayserver/shop": {"onion": {"public": "customers do not know us"}}}, "customers do not know us"),
        ({"btcpayserver/shop": {"onion": True}}, None),
    ],
)
def test_reason_of_the_inventory_goes_over_that_of_the_stack(access: dict[str, Any], reason: str | None) -> None:
    request = Request(stacks=("btcpayserver",), chain="regtest", datacenter="local", access=access)
    assert Site(_CATALOGUE, request).publication_reason("btcpayserver", "shop") == reason
