# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which topics a stack writes, and the schemas of their events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.fields import CatalogueError
from ansible_collections.bcm.core.plugins.module_utils._plan import event_schemas
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Deployed, ProjectState

ROLES = Path(event_schemas.__file__).parents[3] / "roles"
ORDER: dict[str, Any] = {
    "type": "record",
    "namespace": "bcm.web_shop",
    "name": "order",
    "fields": [{"name": "event", "type": "bcm.Envelope"}, {"name": "amount", "type": "long"}],
}


def write_schema(folder: Path, name: str, schema: Any) -> Path:
    path = folder / "events" / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema))
    return path


def test_topic_has_all_versions_of_its_schema_each_with_the_envelope(tmp_path: Path) -> None:
    second = {**ORDER, "fields": [*ORDER["fields"], {"name": "note", "type": "string", "default": ""}]}
    for number in (10, 9):
        write_schema(tmp_path, f"order.{number}.avsc", second if number == 10 else ORDER)
    found = event_schemas.read(tmp_path, "web-shop")
    assert list(found) == ["web-shop.order"]
    versions = len(list((ROLES / "_common/events").glob("envelope.*.avsc")))
    assert [[field["name"] for field in schema["fields"]] for schema in found["web-shop.order"]] == [
        *[["event", "amount"]] * versions,
        *[["event", "amount", "note"]] * versions,
    ]
    envelopes = [schema["fields"][0]["type"] for schema in found["web-shop.order"]]
    assert {(envelope["namespace"], envelope["name"]) for envelope in envelopes} == {("bcm", "Envelope")}
    assert ["host" in str(envelope["fields"]) for envelope in envelopes] == [False, True] * 2


@pytest.mark.parametrize(
    ("name", "schema", "fault"),
    [
        ("order.avsc", ORDER, "is not called as a schema: rename it, such as order.1.avsc"),
        ("order.0.avsc", ORDER, "is not called as a schema"),
        ("order.1.avsc", "{", "is not valid JSON"),
        ("order.1.avsc", "[" * 100_000, "is not valid JSON"),
        ("order.1.avsc", [], "is not a schema of a record"),
        ("order.1.avsc", {**ORDER, "type": "enum"}, "type is enum: write record"),
        ("order.1.avsc", {**ORDER, "namespace": "bcm.shop"}, "namespace is bcm.shop: write bcm.web_shop"),
        ("order.1.avsc", {**ORDER, "name": "orders"}, "name is orders: write order"),
        ("order.1.avsc", {**ORDER, "fields": ORDER["fields"][1:]}, "the first field is not the envelope"),
        ("order.1.avsc", {**ORDER, "fields": {}}, "the first field is not the envelope"),
    ],
)
def test_schema_of_another_form_is_refused(tmp_path: Path, name: str, schema: Any, fault: str) -> None:
    path = write_schema(tmp_path, name, schema)
    with pytest.raises(CatalogueError) as caught:
        event_schemas.read(tmp_path, "web-shop")
    assert str(path) in str(caught.value) and fault in str(caught.value)


@pytest.fixture
def world(documents: dict[str, Any]) -> dict[str, Any]:
    """A broker, a shop that writes its own events, and a collector that writes those of bitcoind."""
    base = {**documents["lnd"], "needs": {}}
    documents["broker"] = {**base, "services": {"events": {"protocol": "tcp", "port": 9092}}}
    documents["web_shop"] = {**base, "needs": {"broker": {"services": ["events"], "optional": True}}}
    documents["collector"] = {
        **base,
        "needs": {"broker": ["events"], "bitcoind": {"services": ["rpc"], "optional": True}},
        "collects": ["bitcoind"],
    }
    return documents


@pytest.fixture
def schemas(tmp_path: Path, world: dict[str, Any]) -> None:
    write_schema(tmp_path / "roles/web_shop", "order.1.avsc", ORDER)
    write_schema(tmp_path / "roles/bitcoind", "block.1.avsc", {**ORDER, "namespace": "bcm.bitcoind", "name": "block"})


def test_stack_writes_its_own_events_and_those_that_it_collects(schemas: None, planner: Any, namer: Any) -> None:
    plan = planner("broker", "web-shop", "collector", "bitcoind").plan(ProjectState(), namer)
    consumers = plan["instances"]["broker"]["consumers"]
    assert consumers["web-shop"]["events"] == ["web-shop.order"]
    assert consumers["collector"]["events"] == ["bitcoind.block"]
    assert plan["instances"]["web-shop"]["events"]["web-shop.order"][-1]["fields"][1] == ORDER["fields"][1]
    assert list(plan["instances"]["collector"]["events"]) == ["bitcoind.block"]
    assert plan["instances"]["bitcoind"]["events"] == {}


def test_nothing_is_collected_of_a_stack_that_is_not_there(schemas: None, planner: Any, namer: Any) -> None:
    found = ProjectState(stacks={"tor": Deployed(requested=False, running=True)})
    plan = planner("collector").plan(found, namer)
    assert plan["instances"]["broker"]["consumers"]["collector"]["events"] == []


def test_nothing_is_collected_of_a_stack_that_a_variable_leaves_out(
    schemas: None, world: dict[str, Any], planner: Any, namer: Any
) -> None:
    world["collector"]["needs"]["bitcoind"]["when"] = "false"
    plan = planner("broker", "collector", "bitcoind").plan(ProjectState(), namer)
    assert plan["instances"]["broker"]["consumers"]["collector"]["events"] == []
    assert plan["instances"]["bitcoind"]["events"] == {}


def test_stack_collects_only_from_stacks_that_it_needs(world: dict[str, Any], planner: Any) -> None:
    world["collector"]["collects"] = ["lnd"]
    with pytest.raises(CatalogueError, match=r"collects lnd, which is not needed: add it to needs"):
        planner("collector")


@pytest.fixture
def logs(schemas: None, world: dict[str, Any]) -> None:
    world["collector"]["reads_journals"] = True


def rules(plan: dict[str, Any]) -> set[tuple[str, str]]:
    (acl,) = (item for item in plan["resources"] if item["kind"] == "network_acl" and item["name"].endswith("-net"))
    found = {(rule["description"], rule["destination_port"]) for rule in acl["egress"]}
    return {rule for rule in found if "journal" in rule[0]}


def test_one_stack_reads_the_journals_of_all(logs: None, planner: Any, namer: Any) -> None:
    plan = planner("web-shop", "collector").plan(ProjectState(), namer)
    collector, shop = plan["instances"]["collector"], plan["instances"]["web-shop"]
    assert shop["journal"] == {"address": shop["address"], "port": 19531, "reader": collector["address"]}
    assert collector["journals"]["web-shop"] == shop["journal"]
    assert set(collector["journals"]) == {"broker", "collector", "tor", "web-shop"} & set(plan["instances"])
    assert shop["journals"] == {}
    assert rules(plan) == {
        (f"collector to {name} journal", "19531") for name in plan["instances"] if name != "collector"
    }
    topics = plan["instances"]["broker"]["consumers"]["collector"]["events"]
    assert {f"{name}.log" for name in plan["instances"]} <= set(topics)
    assert plan["instances"]["broker"]["consumers"]["web-shop"]["events"] == ["web-shop.order"]


def test_nobody_reads_journals_without_the_stack_that_does(logs: None, planner: Any, namer: Any) -> None:
    plan = planner("web-shop", "broker").plan(ProjectState(), namer)
    assert {item["journal"] for item in plan["instances"].values()} == {None}
    assert rules(plan) == set()


def test_who_reads_journals_is_told_of_each_new_stack_and_each_of_who_reads_them(
    logs: None, planner: Any, namer: Any
) -> None:
    def running(*names: str) -> ProjectState:
        return ProjectState(stacks={name: Deployed(requested=True, running=True) for name in names})

    plan = planner("web-shop").plan(running("broker", "collector"), namer)
    assert {"collector", "broker", "web-shop"} <= set(plan["instances"])
    assert "web-shop" in plan["instances"]["collector"]["journals"]
    plan = planner("collector").plan(running("web-shop", "broker"), namer)
    assert plan["instances"]["web-shop"]["journal"]["reader"] == plan["instances"]["collector"]["address"]
    plan = planner("web-shop").plan(running("web-shop", "broker", "collector"), namer)
    assert "collector" not in plan["instances"]


def test_topic_of_a_journal_is_no_event_of_a_stack(tmp_path: Path) -> None:
    write_schema(tmp_path, "log.1.avsc", {**ORDER, "name": "log"})
    with pytest.raises(CatalogueError, match=r"web-shop\.log has what is in the journal: call the event otherwise"):
        event_schemas.read(tmp_path, "web-shop")
