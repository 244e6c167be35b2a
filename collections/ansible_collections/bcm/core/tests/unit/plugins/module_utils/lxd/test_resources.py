# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resources: parsing with its errors, canonical forms, names and paths."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import KINDS, parse


def test_only_given_fields_are_set() -> None:
    config = {"ipv4.nat": True, "bridge.mtu": 1500, "user.x": None}
    resource = parse({"kind": "network", "name": "web", "config": config})
    assert resource.given == {"config": {"ipv4.nat": "true", "bridge.mtu": "1500"}}
    assert (resource.state, resource.project, resource.target) == ("present", "default", None)


def test_options_have_their_defaults_and_are_no_fields() -> None:
    resource = parse({"kind": "instance", "name": "tor", "deadline": 7.0})
    assert resource.given == {}
    assert resource.options == {"replace": False, "force_stop": False, "wait_for": "none", "deadline": 7.0}


@pytest.mark.parametrize(
    ("item", "label", "path"),
    [
        ({"kind": "network_acl", "name": "web"}, "network acl web", "/1.0/network-acls/web"),
        ({"kind": "image", "name": "bcm/base"}, "image bcm/base", "/1.0/images/aliases/bcm%2Fbase"),
        (
            {"kind": "storage_volume", "pool": "fast ssd", "name": "a"},
            "storage volume fast ssd/a",
            "/1.0/storage-pools/fast%20ssd/volumes/custom/a",
        ),
        ({"kind": "snapshot", "instance": "i", "name": "s"}, "snapshot i/s", "/1.0/instances/i/snapshots/s"),
    ],
)
def test_a_resource_has_a_label_for_people_and_a_path(item: dict[str, Any], label: str, path: str) -> None:
    resource = parse(item)
    assert (resource.label, resource.path) == (label, path)


def test_a_project_lies_in_no_project() -> None:
    assert parse({"kind": "project", "name": "p"}, project="other").project == "default"
    assert parse({"kind": "profile", "name": "p"}, project="other").project == "other"
    assert parse({"kind": "profile", "name": "p", "project": "own"}, project="other").project == "own"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"kind": "router", "name": "a"}, 'Unknown kind of resource "router": one of cluster_group, image, instance, '),
        ({"name": "a"}, 'Unknown kind of resource "None"'),
        ({"kind": "network"}, "A resource of kind network has no name"),
        ({"kind": "network", "name": "a", "colour": 1}, 'network a: unknown option "colour"; known: config, desc'),
        ({"kind": "profile", "name": "a", "state": "up"}, 'profile a: unknown state "up"; one of present, absent'),
        ({"kind": "snapshot", "name": "s"}, "snapshot s: instance is required"),
        ({"kind": "storage_volume", "name": "v"}, "storage volume v: pool is required"),
        (
            {"kind": "profile", "name": "a", "config": "x=1"},
            "profile a: config: 'x=1' is not a mapping: write `key: value` lines",
        ),
        (
            {"kind": "profile", "name": "a", "config": {"user.list": [1]}},
            "profile a: config: [1] is not a single value, which is all that LXD keeps here",
        ),
        ({"kind": "profile", "name": "a", "devices": {"root": "disk"}}, "profile a: devices: 'disk' is not a mapping"),
        ({"kind": "network_acl", "name": "a", "egress": ["all"]}, "network acl a: egress: 'all' is not a mapping"),
        (
            {"kind": "network_acl", "name": "a", "egress": [{"action": "allow", "port": 1}]},
            'network acl a: egress: an entry knows no "port", only action, state, description, source, destination, ',
        ),
        (
            {"kind": "snapshot", "instance": "i", "name": "s", "expires_at": "soon"},
            "snapshot s: expires_at: soon is not a point in time: write it as 2026-12-31T00:00:00Z",
        ),
        ({"kind": "network_forward", "name": "192.0.2.1"}, "A resource of kind network forward has no listen_address"),
        (
            {"kind": "network_load_balancer", "network": "n", "listen_address": "a", "ports": [{"target_backend": 1}]},
            "network load balancer a: ports: 1 is not a list of names",
        ),
        (
            {"kind": "network_zone_record", "zone": "z", "name": "r", "entries": [{"ttl": "9" * 5000}]},
            "network zone record r: entries: '9999",
        ),
        (
            {"kind": "cluster_group", "name": "g", "owner": {"user.a": "b"}},
            "cluster group g: has no configuration keys that could say whose it is",
        ),
    ],
)
def test_a_wrong_item_is_named_with_its_fault(item: dict[str, Any], message: str) -> None:
    with pytest.raises(LxdError) as caught:
        parse(item)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("2027-01-01T02:00:00+02:00", "2027-01-01T00:00:00Z"),
        ("2027-01-01 00:00:00", "2027-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", ""),
    ],
)
def test_points_in_time_are_compared_as_utc(written: str, canonical: str) -> None:
    expires_at = KINDS["snapshot"].fields["expires_at"]
    assert expires_at.canonical(written) == canonical


WORDS = st.text("abcxyz019./-", min_size=1, max_size=8)
RULES = st.lists(
    st.fixed_dictionaries(
        {"action": st.sampled_from(["allow", "reject"])},
        optional={
            "destination": st.lists(WORDS, min_size=1, max_size=3).map(",".join),
            "destination_port": st.integers(1, 65535),
            "description": st.text(max_size=8),
            "state": st.sampled_from(["enabled", "logged"]),
        },
    ),
    max_size=5,
)


@given(rules=RULES, data=st.data())
def test_rules_mean_the_same_in_any_order_and_spacing(rules: list[dict[str, Any]], data: st.DataObject) -> None:
    canonical = KINDS["network_acl"].fields["egress"].canonical
    spaced = [
        {key: value.replace(",", " , ") if key == "destination" else value for key, value in rule.items()}
        for rule in data.draw(st.permutations(rules))
    ]
    assert canonical(spaced) == canonical(rules)
    assert canonical(canonical(rules)) == canonical(rules)
    assert all(rule["state"] for rule in canonical(rules))


def test_parts_of_entries_keep_their_types() -> None:
    records = KINDS["network_zone_record"].fields["entries"].canonical
    assert records([{"type": "TXT", "value": "a, b", "ttl": "60"}]) == [{"type": "TXT", "value": "a, b", "ttl": 60}]
    ports = KINDS["network_load_balancer"].fields["ports"].canonical
    assert ports([{"listen_port": 80, "target_backend": ["two", "one"], "description": ""}]) == [
        {"listen_port": "80", "target_backend": ["one", "two"], "protocol": "tcp"}
    ]


def test_resources_come_after_what_they_are_part_of() -> None:
    peer = {"kind": "network_peer", "network": "a", "name": "p", "target_network": "b"}
    assert references(peer) == {("network", "a"), ("network", "b")}
    assert references({"kind": "network_forward", "network": "a", "listen_address": "192.0.2.1"}) == {("network", "a")}
    assert references({"kind": "network_zone_record", "zone": "z", "name": "r"}) == {("network_zone", "z")}
    assert references({"kind": "storage_bucket", "pool": "p", "name": "b"}) == {("storage_pool", "p")}
    assert references({"kind": "instance_backup", "instance": "i", "name": "b"}) == {("instance", "i")}
    copy = {"kind": "instance", "name": "j", "source": {"instance": "i", "snapshot": None}}
    assert references(copy) == {("instance", "i")}


def references(item: dict[str, Any]) -> set[tuple[str, str]]:
    resource = parse(item)
    return resource.references(resource.given)


def test_references_are_found_where_they_hide() -> None:
    instance = parse(
        {
            "kind": "instance",
            "name": "i",
            "project": "p",
            "image": "base",
            "profiles": ["default", "web"],
            "devices": {
                "eth0": {"type": "nic", "network": "lan", "security.acls": "a, b"},
                "eth1": {"type": "nic", "nictype": "bridged", "parent": "br0"},
                "root": {"type": "disk", "path": "/", "pool": "fast"},
                "data": {"type": "disk", "path": "/data", "pool": "slow", "source": "data"},
                "home": {"type": "disk", "path": "/home", "source": "/home"},
            },
        }
    )
    assert instance.references(instance.given) == {
        ("project", "p"),
        ("image", "base"),
        ("profile", "default"),
        ("profile", "web"),
        ("network", "lan"),
        ("network", "br0"),
        ("network_acl", "a"),
        ("network_acl", "b"),
        ("storage_pool", "fast"),
        ("storage_pool", "slow"),
        ("storage_volume", "slow/data"),
    }


@pytest.mark.parametrize(
    ("item", "references"),
    [
        ({"kind": "network", "name": "n", "config": {"security.acls": "a,b", "network": "up"}},
         {("network_acl", "a"), ("network_acl", "b"), ("network", "up")}),
        ({"kind": "storage_volume", "pool": "p", "name": "v"}, {("storage_pool", "p")}),
        ({"kind": "snapshot", "instance": "i", "name": "s"}, {("instance", "i")}),
        ({"kind": "image", "name": "x", "source": {"instance": "i"}}, {("instance", "i")}),
        ({"kind": "image", "name": "x", "source": {"metadata": "/f"}}, set()),
        ({"kind": "project", "name": "p"}, set()),
    ],
)  # fmt: skip
def test_references_of_the_other_kinds(item: dict[str, Any], references: set[tuple[str, str]]) -> None:
    resource = parse(item)
    assert resource.references(resource.given) == references
