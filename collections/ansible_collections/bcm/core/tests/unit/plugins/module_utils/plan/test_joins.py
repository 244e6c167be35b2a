# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stacks that are enabled with others, ports of the host that lead to a service, and secrets of a stack's own."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Deployed, ProjectState

MIDDLE = {"tor_relay": "middle", "relay_or_host_port": "192.0.2.1:443"}
NONE = {"tor_relay": "none"}


@pytest.fixture
def plan(documents: dict[str, Any], planner: Any, namer: Any) -> Any:
    """The plan of some stacks where there is a relay; `found` are those that run."""
    documents["relay"] = {
        **documents["lnd"],
        "tier": "underlay",
        "chains": documents["tor"]["chains"],
        "needs": {"tor": []},
        "enabled_with": {"tor": "tor_relay == 'middle'"},
        "services": {"or": {"protocol": "tcp", "port": 9001, "host_port": True}},
        "secrets": ["relay_identity"],
        "uplink": {"user": "debian-tor"},
    }
    documents["watch"] = {**documents["lnd"], "chains": documents["tor"]["chains"], "needs": {"relay": []}}

    def make(*stacks: str, found: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
        made = planner(*stacks, **fields)
        made.check()
        return dict(
            made.plan(
                ProjectState(stacks={name: Deployed(requested=name == "relay", running=True) for name in found}), namer
            )
        )

    return make


def test_stack_is_enabled_when_the_condition_holds_and_only_then(plan: Any) -> None:
    middle = plan("electrs", variables=MIDDLE)
    assert set(middle["stacks"]) == {"tor", "relay", "bitcoind", "electrs"}
    assert set(middle["requested"]) == {"relay", "electrs"}
    none = plan("electrs", variables=NONE)
    assert "relay" not in none["stacks"] and none["requested"] == ["electrs"]


def test_conditional_stack_is_started_by_name_if_its_condition_holds(plan: Any) -> None:
    assert plan("relay", variables=MIDDLE)["stacks"] == ["tor", "relay"]
    for stack in ("relay", "watch"):
        with pytest.raises(
            BcmError, match=r"^Stack relay is there if tor_relay == 'middle', which is not so: set it in"
        ):
            plan(stack, variables=NONE)


def test_stack_is_removed_when_its_condition_no_longer_holds(plan: Any, by_kind: Any) -> None:
    left = plan("tor", variables=NONE, found=("tor", "relay", "watch"))
    gone = [name for kind, name, state in by_kind(left["resources"]) if (kind, state) == ("instance", "absent")]
    assert gone == ["watch", "relay"]
    assert left["requested"] == left["stacks"] == ["tor"]
    assert [rule["description"] for rule in _uplink_acl(left)["ingress"]] == []
    assert left["warnings"][1] == "Stack relay is not enabled any more, and is removed; its volumes are kept"
    kept = plan("tor", variables=MIDDLE, found=("tor", "relay", "watch"))
    assert ("instance", "relay", "absent") not in by_kind(kept["resources"]) and not kept["warnings"]


def test_removal_ignores_the_condition(plan: Any) -> None:
    assert plan("relay", variables=NONE, found=("tor", "relay"), state="absent")["stacks"] == ["relay", "tor"]
    assert plan("tor", variables=MIDDLE, found=("tor", "relay"), state="absent")["stacks"] == ["relay", "tor"]
    # it counts as requested, and keeps what it needs
    left = plan("electrs", found=("tor", "relay", "bitcoind", "electrs"), state="absent")
    assert left["stacks"] == ["electrs", "bitcoind"]


def test_wrong_condition_is_reported_with_its_place(documents: dict[str, Any], plan: Any) -> None:
    documents["relay"]["enabled_with"] = {"tor": "tor_rely == 'middle'"}
    with pytest.raises(BcmError, match=r"relay/meta/stack.yml: enabled_with.tor: 'tor_rely' is undefined"):
        plan("tor", variables=MIDDLE)


def _uplink_acl(plan: dict[str, Any]) -> dict[str, Any]:
    (found,) = (item for item in plan["resources"] if (item["kind"], item["name"]) == ("network_acl", "local-r-up"))
    return dict(found)


def test_port_of_the_host_leads_to_the_service(plan: Any) -> None:
    middle = plan("relay", variables=MIDDLE)
    relay = middle["instances"]["relay"]
    inside = relay["uplink"]["address"]
    assert relay["services"]["or"] == {
        "port": 9001,
        "protocol": "tcp",
        "tls": None,
        "listen": inside,
        "host_port": {"address": "192.0.2.1", "port": 443},
        "grpc": False,
        "lan": None,
    }
    devices = next(item["devices"] for item in middle["resources"] if item["name"] == "relay")
    assert devices["host-port-or"] == {
        "type": "proxy",
        "nat": "true",
        "listen": "tcp:192.0.2.1:443",
        "connect": f"tcp:{inside}:9001",
    }
    assert _uplink_acl(middle)["ingress"] == [
        {
            "action": "allow",
            "state": "enabled",
            "description": "The world to relay or",
            "destination": f"{inside}/32",
            "protocol": "tcp",
            "destination_port": "9001",
        }
    ]


def test_no_port_of_the_host_without_the_variable(plan: Any) -> None:
    middle = plan("relay", variables={"tor_relay": "middle"})
    assert middle["instances"]["relay"]["services"]["or"]["host_port"] is None
    devices = next(item["devices"] for item in middle["resources"] if item["name"] == "relay")
    assert "host-port-or" not in devices


@pytest.mark.parametrize("where", ["0.0.0.0:9001", "192.0.2.1", "192.0.2.1:0", "example.org:9001", "192.0.2.1:65536"])
def test_invalid_port_of_the_host_is_rejected(plan: Any, where: str) -> None:
    with pytest.raises(BcmError, match=f'^Variable relay_or_host_port is "{where}": write an IPv4 address of the host'):
        plan("relay", variables={**MIDDLE, "relay_or_host_port": where})


def test_stack_has_a_secret_of_its_own(plan: Any) -> None:
    assert plan("relay", variables=MIDDLE)["secrets"] == ["relay/relay_identity"]
