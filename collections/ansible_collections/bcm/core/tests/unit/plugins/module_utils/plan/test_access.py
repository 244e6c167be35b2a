# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From where services are reached: local networks and onion addresses, by the variable bcm_access."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter.forbidden_connections import rules_for
from ansible_collections.bcm.core.plugins.module_utils._plan.outline import outline
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Deployed, ProjectState

NAMES = ["shop.home.arpa", "shop.example.org", "desk", "home.arpa.example"]
LAN = {"address": "192.0.2.10", "port": 443, "from": ["192.168.1.0/24", "100.64.7.0/24"]}


@pytest.fixture
def plan(documents: dict[str, Any], planner: Any, namer: Any) -> Any:
    """The plan of stacks where there are a shop with pages and an onion service, and a box with two services."""
    documents["tor"]["onion_gateway"] = True
    base = {**documents["lnd"], "tier": "web", "chains": documents["tor"]["chains"], "needs": {"tor": []}}
    documents["shop"] = {
        **base,
        "services": {
            "http": {"protocol": "tcp", "port": 8443, "tls": "server",
                     "onion": {"port": 80, "listen": 8080, "when": "shop_onion"}},
            "admin": {"protocol": "tcp", "port": 9443, "tls": "mutual"},
            "raw": {"protocol": "tcp", "port": 9000},
        },
        "web": [{"service": "http", "path": "/", "title": "Shop"}],
    }  # fmt: skip
    documents["box"] = {**base, "services": {key: {"protocol": "tcp", "port": number, "tls": "server"}
                                             for key, number in (("one", 1), ("two", 2))}}  # fmt: skip

    def make(*stacks: str, access: Any, found: tuple[str, ...] = (), onion: bool = True) -> dict[str, Any]:
        made = planner(*stacks, access=access, variables={"shop_onion": onion})
        state = ProjectState(stacks={name: Deployed(requested=True, running=True) for name in found})
        return dict(made.plan(state, namer))

    return make


def _resource(plan: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    (found,) = (item for item in plan["resources"] if (item["kind"], item["name"]) == (kind, name))
    return dict(found)


def test_nothing_is_reached_from_local_networks_by_default(plan: Any) -> None:
    made = plan("shop", access={})
    assert made["instances"]["shop"]["uplink"] is None
    assert made["instances"]["shop"]["services"]["http"]["lan"] is None
    assert _resource(made, "network_acl", "local-r-up")["ingress"] == []
    assert not [key for key in _resource(made, "instance", "shop")["devices"] if key.startswith("lan-")]


def test_address_of_a_host_leads_to_the_service_for_the_networks_listed(plan: Any) -> None:
    made = plan("shop", access={"shop": {"lan": {**LAN, "names": ["Shop.home.arpa"]}}})
    shop = made["instances"]["shop"]
    inside = shop["uplink"]["address"]
    assert (shop["uplink"]["user"], shop["uplink"]["rules"]) == (None, [])
    assert shop["uplink"]["answers"] == LAN["from"]
    assert _resource(made, "instance", "shop")["devices"]["lan-http"] == {
        "type": "proxy",
        "nat": "true",
        "listen": "tcp:192.0.2.10:443",
        "connect": f"tcp:{inside}:8443",
    }
    assert _resource(made, "network_acl", "local-r-up")["ingress"] == [
        {
            "action": "allow",
            "state": "enabled",
            "description": "shop http from the local network at 192.0.2.10:443",
            "source": "192.168.1.0/24,100.64.7.0/24",
            "destination": f"{inside}/32",
            "protocol": "tcp",
            "destination_port": "8443",
        }
    ]
    (certificate,) = (item for item in made["certificates"] if item["name"] == "shop")
    assert certificate["names"] == ["shop.local-regtest.bcm", shop["address"], "shop.home.arpa", "192.0.2.10"]
    (page,) = next(item for item in made["summary"] if item["stack"] == "shop")["web"]
    assert page["lan"] == "https://shop.home.arpa:443/"
    assert made["certifiable"] == {"domains": ["shop.home.arpa"], "subnets": ["192.0.2.10/32"]}
    assert made["warnings"] == []


def test_data_center_may_certify_what_nobody_else_certifies(plan: Any) -> None:
    lan = {**LAN, "address": "192.168.1.10", "names": NAMES}
    shared, public = {**LAN, "address": "100.64.7.1"}, {**LAN, "address": "8.8.8.8"}
    made = plan("tor", access={"shop/http": {"lan": lan}, "box/one": {"lan": shared}, "box/two": {"lan": public}})
    assert made["certifiable"]["domains"] == ["shop.home.arpa", "desk"]
    assert made["certifiable"]["subnets"] == ["192.168.1.10/32", "100.64.7.1/32"]


def test_other_networks_get_another_address_inside(plan: Any) -> None:
    """So that no connection outlives the rule that let it in."""
    first, second = (
        plan("shop", access={"shop": {"lan": {**LAN, "from": [network]}}})["instances"]["shop"]["uplink"]["address"]
        for network in ("192.168.1.0/24", "192.168.2.0/24")
    )
    assert first != second


def test_everybody_in_a_network_may_come_with_a_reason_and_a_warning(plan: Any) -> None:
    made = plan("tor", access={"shop": {"lan": {**LAN, "public": "a till  has no certificate"}}}, found=("tor", "shop"))
    assert made["warnings"] == [
        "shop http is open to everybody in 192.168.1.0/24, 100.64.7.0/24 at 192.0.2.10:443: "
        "a till has no certificate (bcm_access)"
    ]


@pytest.mark.parametrize(
    ("access", "default", "expected"),
    [
        ({}, True, True),
        ({}, False, None),
        ({"shop": {"onion": False}}, True, None),
        ({"shop": {"onion": True}}, False, True),
        ({"shop/http": {"onion": {"public": "customers do not know us"}}}, False, False),
    ],
)
def test_onion_service_is_as_the_inventory_says(plan: Any, access: Any, default: bool, expected: bool | None) -> None:
    services = plan("shop", access=access, onion=default)["onions"]["services"]
    assert [service["authorization"] for service in services] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("access", "message"),
    [
        ([], "bcm_access is not a mapping"),
        ({"shopp": {}}, 'bcm_access.shopp: Unknown stack "shopp": did you mean "shop"'),
        ({"shop/htp": {}}, 'Unknown service of shop "htp": did you mean "http"'),
        ({"box": {}}, "bcm_access.box does not say which service is meant: write box/one or box/two in its place"),
        ({"electrum": {}}, "bcm_access.electrum has no service: leave it out"),
        ({"shop": {}, "shop/http": {}}, "bcm_access.shop/http names a service that another entry names"),
        ({"shop": {"wan": True}}, 'Unknown field "wan": did you mean "lan"'),
        ({"shop/raw": {"lan": LAN}}, "bcm_access.shop/raw.lan cannot be: shop raw has no TLS"),
        ({"tor": {"lan": LAN}}, "bcm_access.tor.lan cannot be: tor socks has no TLS"),
        ({"shop": {"lan": {"address": "192.0.2.10", "port": 443}}}, "lan.from is missing"),
        ({"shop": {"lan": {**LAN, "from": []}}}, "lan.from is \\[\\]: write a list with at least one entry"),
        ({"shop": {"lan": {**LAN, "from": ["192.168.1.1/24"]}}}, "no IPv4 network .*has host bits set"),
        ({"shop": {"lan": {**LAN, "from": ["0.0.0.0/0"]}}}, 'from.0 is "0.0.0.0/0", which is not a private network'),
        ({"shop": {"lan": {**LAN, "from": ["8.8.8.0/24"]}}}, "which is not a private network"),
        ({"shop": {"lan": {**LAN, "from": ["10.0.0.0/8"]}}}, "where the data center itself is"),
        ({"shop": {"lan": {**LAN, "address": "0.0.0.0"}}}, 'lan.address is "0.0.0.0": write an IPv4 address of the'),
        ({"shop": {"lan": {**LAN, "address": "127.0.0.1"}}}, "lan.address is"),
        ({"shop": {"lan": {**LAN, "address": "here"}}}, 'lan.address is "here"'),
        ({"shop": {"lan": {**LAN, "port": 0}}}, "lan.port is 0: write a port"),
        ({"shop": {"lan": {**LAN, "names": ["a b"]}}}, 'lan.names.0 is "a b": write a name of the host'),
        ({"shop": {"lan": {**LAN, "public": ""}}}, "lan.public is"),
        ({"shop/http": {"lan": LAN}, "shop/admin": {"lan": LAN}}, "lan is at 192.0.2.10:443, as shop http is"),
        ({"shop/admin": {"onion": True}}, "bcm_access.shop/admin.onion cannot be: its stack.yml has no onion service"),
        ({"shop": {"onion": "public"}}, 'onion is "public": write true, for clients with a key, false, or public: and'),
        ({"shop": {"onion": {"public": True}}}, "onion.public is True"),
    ],
)  # fmt: skip
def test_wrong_access_ends_the_run_with_one_message(plan: Any, access: Any, message: str) -> None:
    with pytest.raises(BcmError, match=f"^the inventory: .*{message}"):
        plan("shop", access=access)


def test_outline_of_a_plan_has_the_rules_that_decide_on_connections(plan: Any) -> None:
    made = plan("shop", "box", access={"shop": {"lan": LAN}})
    found = {name: rules_for(outline(made), name) for name in made["instances"]}
    assert found == {name: rules_for(made, name) for name in made["instances"]}
    assert len(found["shop"]) > len(found["box"]) > 0
