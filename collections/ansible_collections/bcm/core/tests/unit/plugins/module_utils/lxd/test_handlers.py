# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans are a pure function of what is and what ought to be; carried out, they leave nothing to plan."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bcm.core.plugins.module_utils._lxd.handler_base import Step
from ansible_collections.bcm.core.plugins.module_utils._lxd.handlers import EXPORTED, VANISHED, handler_of
from ansible_collections.bcm.core.plugins.module_utils._lxd.instance_handler import (
    NO_ADDRESS,
    UNPLUGGED,
    WANTED_IMAGE,
    addresses,
)
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError, NotFound
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import KINDS, Resource, parse


def steps(item: dict[str, Any], body: dict[str, Any] | None) -> list[Step]:
    resource = parse(item)
    return handler_of(resource).steps(resource, body)


def actions(item: dict[str, Any], body: dict[str, Any] | None) -> list[str]:
    return [step.action for step in steps(item, body)]


# -- any kind ---------------------------------------------------------------------------------------------------------


def test_missing_resource_is_created_and_unwanted_one_is_deleted() -> None:
    item = {"kind": "profile", "name": "p", "config": {"user.x": 1}}
    body = {"name": "p", "description": "old", "config": {"user.x": "1", "volatile.y": "2"}, "devices": {}}
    assert steps(item, None) == [Step("create", {}, {"config": {"user.x": "1"}})]
    assert steps(item, body) == []
    absent = {"kind": "profile", "name": "p", "state": "absent"}
    assert steps(absent, None) == []
    assert steps(absent, body) == [Step("delete", {"description": "old", "config": {"user.x": "1"}}, {})]


def test_the_difference_holds_only_what_differs() -> None:
    item = {"kind": "profile", "name": "p", "config": {"user.a": "1", "user.b": "new", "user.c": "3"}}
    body = {"description": "kept", "config": {"user.a": "1", "user.b": "old", "user.gone": "4"}, "devices": {}}
    (step,) = steps(item, body)
    assert step == Step(
        "update",
        {"config": {"user.b": "old", "user.gone": "4"}},
        {"config": {"user.b": "new", "user.c": "3"}},
    )


def test_given_fields_replace_and_others_stay() -> None:
    resource = parse({"kind": "instance", "name": "i", "config": {"user.b": 2}, "devices": {}})
    body = {
        "name": "i",
        "architecture": "x86_64",
        "description": "words",
        "profiles": ["default", "web"],
        "ephemeral": False,
        "config": {"user.a": "1", "volatile.eth0.hwaddr": "00:16", "image.os": "debian"},
        "devices": {"root": {"type": "disk", "path": "/", "pool": "default"}},
        "status": "Running",
    }
    assert handler_of(resource).merged(resource, body) == {
        "architecture": "x86_64",
        "description": "words",
        "profiles": ["default", "web"],
        "ephemeral": False,
        "config": {"user.b": "2", "volatile.eth0.hwaddr": "00:16", "image.os": "debian"},
        "devices": {},
    }


def test_keys_that_the_server_fills_in_stay_unless_given() -> None:
    body = {"config": {"ipv4.address": "10.0.0.1/24", "ipv4.nat": "true", "user.x": "1"}, "description": ""}
    network = {"kind": "network", "name": "n"}
    assert actions({**network, "config": {"user.x": 1}}, body) == []
    assert actions({**network, "config": {"user.x": 1, "ipv4.nat": False}}, body) == ["update"]


def test_auto_is_what_the_server_chose() -> None:
    network = {"kind": "network", "name": "n", "config": {"ipv4.address": "auto"}}
    assert actions(network, {"config": {"ipv4.address": "10.3.2.1/24"}, "description": ""}) == []
    assert actions(network, {"config": {"ipv4.address": "none"}, "description": ""}) == ["update"]


def test_network_is_set_up_again_whenever_that_is_requested() -> None:
    network = {"kind": "network", "name": "n", "state": "reloaded"}
    assert actions(network, None) == ["create"]
    assert actions(network, {"config": {}, "description": ""}) == ["reload"]
    assert actions({**network, "description": "new"}, {"config": {}, "description": ""}) == ["update", "reload"]


@pytest.mark.parametrize(
    ("item", "name", "there"),
    [
        ({"kind": "storage_pool", "name": "p", "driver": "zfs"}, "driver", "btrfs"),
        ({"kind": "storage_volume", "name": "v", "pool": "p", "content_type": "block"}, "content_type", "filesystem"),
        ({"kind": "network", "name": "n", "type": "ovn"}, "type", "bridge"),
        ({"kind": "instance", "name": "i", "type": "virtual-machine"}, "type", "container"),
        ({"kind": "snapshot", "instance": "i", "name": "s", "stateful": True}, "stateful", False),
    ],
)
def test_immutable_field_that_differs_is_refused(item: dict[str, Any], name: str, there: Any) -> None:
    body = {"name": item["name"], "config": {}, "description": "", "devices": {}, "status": "Stopped"}
    with pytest.raises(LxdError, match=f"its {name} is {there} and cannot become {item[name]}: delete it first"):
        steps(item, {**body, name: there})
    assert actions(item, {**body, name: item[name]}) == []
    assert actions({**item, "state": "absent"}, {**body, name: there}) == ["delete"]
    resource = parse(item)
    assert name not in handler_of(resource).merged(resource, {**body, name: item[name]})


KEYS = st.sampled_from(["user.a", "user.b", "limits.cpu", "volatile.x", "image.os", "ipv4.address", "size", "source"])
VALUES = st.one_of(st.text("abc1", max_size=3), st.booleans(), st.integers(0, 9), st.none())
CONFIG = st.dictionaries(KEYS, VALUES, max_size=5)
PRESENT = st.dictionaries(KEYS, st.text("abc1", max_size=3), max_size=5)
DEVICES = st.dictionaries(st.sampled_from(["root", "eth0"]), CONFIG, max_size=2)
KIND = st.sampled_from(["project", "storage_pool", "network", "profile"])


@st.composite
def wanted(draw: st.DrawFn) -> tuple[Resource, dict[str, Any]]:
    """A resource of one of the plain kinds, and some body that is there."""
    kind = draw(KIND)
    fields = {"description": st.one_of(st.text(max_size=3), st.none()), "config": CONFIG, "devices": DEVICES}
    known = {name: value for name, value in fields.items() if name in KINDS[kind].fields}
    item = draw(st.fixed_dictionaries({}, optional=known))
    body = draw(st.fixed_dictionaries({"description": st.text(max_size=3), "config": PRESENT, "devices": st.just({})}))
    return parse({"kind": kind, "name": "x", **item}), body


@given(wanted())
def test_a_plan_that_was_carried_out_leaves_nothing_to_plan(case: tuple[Resource, dict[str, Any]]) -> None:
    resource, body = case
    handler = handler_of(resource)
    assert handler.steps(resource, {**body, **handler.merged(resource, body)}) == []


@given(wanted())
def test_nothing_planned_means_that_a_write_would_change_nothing(case: tuple[Resource, dict[str, Any]]) -> None:
    resource, body = case
    handler = handler_of(resource)
    written = handler.merged(resource, body)
    fields = {name: item.canonical for name, item in resource.kind.fields.items() if item.mutable}
    same = all(canonical(written[name]) == canonical(body.get(name)) for name, canonical in fields.items())
    assert (handler.steps(resource, body) == []) == same


@given(wanted())
def test_foreign_resource_is_never_overwritten(case: tuple[Resource, dict[str, Any]]) -> None:
    resource, body = case
    written = handler_of(resource).merged(resource, body)
    for name in resource.kind.fields:
        if name not in resource.given and resource.kind.fields[name].mutable:
            assert written[name] == body.get(name)
    given_keys = resource.given.get("config", {})
    for key, value in body["config"].items():
        if value and key not in given_keys and resource.kind.owned_by_server(key):
            assert written["config"][key] == value


# -- instances --------------------------------------------------------------------------------------------------------

INSTANCE: dict[str, Any] = {"kind": "instance", "name": "i", "image": "base"}


def instance(status: str, **more: Any) -> dict[str, Any]:
    return {"name": "i", "status": status, "config": {}, "devices": {}, "profiles": ["default"], **more}


@pytest.mark.parametrize(
    ("state", "status", "planned"),
    [
        ("present", None, ["create"]),
        ("present", "Running", []),
        ("present", "Stopped", []),
        ("started", None, ["create", "start"]),
        ("started", "Running", []),
        ("started", "Stopped", ["start"]),
        ("started", "Ready", []),
        ("started", "Frozen", ["start"]),
        ("stopped", None, ["create"]),
        ("stopped", "Running", ["stop"]),
        ("stopped", "Frozen", ["stop"]),
        ("stopped", "Stopped", []),
        ("restarted", None, ["create", "start"]),
        ("restarted", "Running", ["restart"]),
        ("restarted", "Stopped", ["start"]),
        ("absent", None, []),
        ("absent", "Running", ["delete"]),
    ],
)
def test_states_of_an_instance(state: str, status: str | None, planned: list[str]) -> None:
    assert actions({**INSTANCE, "state": state}, instance(status) if status else None) == planned


def test_an_instance_is_changed_before_it_is_started() -> None:
    assert actions({**INSTANCE, "state": "started", "description": "new"}, instance("Stopped")) == ["update", "start"]


def test_a_new_instance_needs_an_image() -> None:
    message = "Failed to create instance i: it does not exist yet, so an image or a source has to be given"
    with pytest.raises(LxdError, match=message):
        steps({"kind": "instance", "name": "i", "state": "started"}, None)


def test_an_instance_is_made_of_an_image_or_of_a_source() -> None:
    copy = {"kind": "instance", "name": "i", "source": {"instance": "j", "snapshot": None}, "state": "started"}
    assert steps(copy, None) == [
        Step("create", {}, {"source": {"instance": "j"}}),
        Step("start", {"status": "Stopped"}, {"status": "Running"}),
    ]
    assert actions(copy, instance("Running")) == []
    with pytest.raises(LxdError, match="instance i: image and source exclude each other"):
        steps({**copy, "image": "base"}, None)


def test_only_an_instance_that_has_an_image_is_replaced() -> None:
    root = {"root": {"type": "disk", "path": "/", "pool": "new"}}
    item = {"kind": "instance", "name": "i", "source": {"instance": "j"}, "replace": True, "devices": root}
    body = instance("Running", devices={"root": {**root["root"], "pool": "old"}})
    assert actions(item, body) == ["update"]


OLD, NEW = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("wanted_image", "planned"),
    [
        (OLD, []),
        (OLD[:12], []),  # an abbreviated fingerprint
        (NEW, ["replace"]),
        ("bcm/tor/new", ["replace"]),  # an alias that the same run makes
    ],
)
def test_an_instance_of_another_image_is_replaced_when_asked(wanted_image: str, planned: list[str]) -> None:
    item = {**INSTANCE, "state": "started", "replace": True}
    body = instance("Running", config={"volatile.base_image": OLD}, **{WANTED_IMAGE: wanted_image})
    assert actions(item, body) == planned
    assert actions({**item, "replace": False}, instance("Running", config={"volatile.base_image": OLD})) == []


def test_an_instance_that_is_replaced_is_not_changed_first() -> None:
    item = {**INSTANCE, "replace": True, "description": "new"}
    body = instance("Running", config={"volatile.base_image": OLD}, **{WANTED_IMAGE: NEW})
    assert steps(item, body) == [Step("replace", {"image": OLD[:12]}, {"image": NEW[:12]})]


def test_an_instance_is_replaced_to_move_to_another_pool() -> None:
    def root(pool: str) -> dict[str, Any]:
        return {"root": {"type": "disk", "path": "/", "pool": pool}}

    item = {**INSTANCE, "state": "started", "replace": True, "devices": root("new")}
    body = instance("Running", devices=root("old"), **{WANTED_IMAGE: ""})
    assert steps(item, body) == [Step("replace", {"pool": "old"}, {"pool": "new"})]
    assert actions(item, {**body, "devices": root("new")}) == []


def test_an_instance_without_an_address_is_waited_for_and_that_is_no_change() -> None:
    item = {**INSTANCE, "state": "started", "wait_for": "address"}
    assert steps(item, instance("Running", **{NO_ADDRESS: True})) == [Step("wait", {}, {}, changes=False)]
    assert steps(item, instance("Running", **{NO_ADDRESS: False})) == []


def test_an_instance_that_lost_its_network_is_restarted() -> None:
    item = {**INSTANCE, "state": "started"}
    assert actions(item, instance("Running", **{UNPLUGGED: ["eth0"]})) == ["restart"]
    assert actions({**item, "state": "present"}, instance("Running", **{UNPLUGGED: ["eth0"]})) == []


def test_a_network_whose_interface_vanished_is_set_up_again() -> None:
    body = {"config": {}, "description": "", VANISHED: True}
    assert actions({"kind": "network", "name": "n"}, body) == ["reload"]
    assert actions({"kind": "network", "name": "n", "state": "absent"}, body) == ["delete"]


def test_only_global_addresses_count() -> None:
    def address(address: str, family: str, scope: str) -> dict[str, str]:
        return {"address": address, "family": family, "scope": scope}

    state = {
        "network": {
            "lo": {"addresses": [address("127.0.0.1", "inet", "local"), address("10.9.9.9", "inet", "global")]},
            "eth0": {"addresses": [address("10.0.0.2", "inet", "global"), address("fe80::1", "inet6", "link")]},
        }
    }
    assert addresses(state) == ["10.0.0.2"]
    assert addresses(state, families=["inet6"]) == []
    assert addresses({"network": None}) == []


# -- images and snapshots ---------------------------------------------------------------------------------------------


def test_an_image_needs_a_source_only_to_be_made() -> None:
    body = {"fingerprint": OLD, "properties": {"os": "debian"}, "public": False, "auto_update": False}
    with pytest.raises(LxdError, match="Failed to create image x: it does not exist yet, so a source has to be given"):
        steps({"kind": "image", "name": "x"}, None)
    assert actions({"kind": "image", "name": "x", "source": {"instance": "i"}}, None) == ["create"]
    assert actions({"kind": "image", "name": "x", "source": {"instance": "i"}}, body) == []
    assert steps({"kind": "image", "name": "x", "properties": {"os": "other"}}, body) == [
        Step("update", {"properties": {"os": "debian"}}, {"properties": {"os": "other"}})
    ]
    assert steps({"kind": "image", "name": "x", "state": "absent"}, body) == [
        Step("delete", {"fingerprint": OLD, "properties": {"os": "debian"}}, {})
    ]


def test_restoring_always_does_something_and_needs_the_snapshot() -> None:
    item = {"kind": "snapshot", "instance": "i", "name": "s", "state": "restored"}
    assert actions(item, {"name": "s"}) == ["restore"]
    with pytest.raises(NotFound, match="Failed to restore snapshot i/s: it does not exist"):
        steps(item, None)


def test_the_end_of_a_snapshot_is_the_same_in_any_time_zone() -> None:
    item = {"kind": "snapshot", "instance": "i", "name": "s", "expires_at": "2027-01-01T02:00:00+02:00"}
    assert actions(item, {"name": "s", "expires_at": "2027-01-01T00:00:00Z"}) == []
    assert actions(item, {"name": "s", "expires_at": "0001-01-01T00:00:00Z"}) == ["update"]


# -- backups and warnings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "planned"), [(None, ["export"]), (0.0, ["export"]), (1_798_761_600.0, [])]
)  # fmt: skip
def test_backup_is_exported_if_the_file_is_not_of_its_time(written: float | None, planned: list[str]) -> None:
    item = {"kind": "instance_backup", "instance": "i", "name": "b", "path": "/b.tar"}
    body = {"name": "b", "created_at": "2027-01-01T00:00:00Z", "expires_at": "0001-01-01T00:00:00Z", EXPORTED: written}
    assert actions(item, body) == planned
    assert actions({**item, "path": None}, body) == []
    assert actions(item, None) == ["create", "export"]
    assert actions({**item, "state": "absent"}, body) == ["delete"]


def test_warning_has_a_status_and_is_made_by_the_server_alone() -> None:
    item = {"kind": "warning", "uuid": "u"}
    body = {"uuid": "u", "type": "t", "status": "new"}
    assert steps(item, body) == [Step("update", {"status": "new"}, {"status": "acknowledged"})]
    assert actions({**item, "state": "new"}, body) == []
    assert actions({**item, "state": "absent"}, None) == []
    with pytest.raises(NotFound, match="Failed to update warning u: it does not exist"):
        steps(item, None)
