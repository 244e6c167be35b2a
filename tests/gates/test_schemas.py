# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever reads events reads those of all versions, and events of tomorrow with the schemas of today."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from ansible_collections.bcm.core.plugins.module_utils._guest.event_codec import Codec
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from tests.support import COLLECTION, ROOT

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
CATALOGUE = Catalogue.read()
SCHEMAS = CATALOGUE.logs(["lnd"]) | {
    topic: schemas for stack in CATALOGUE.values() for topic, schemas in stack.events.items()
}
#: logical types of ours beside those of Avro, and what they are kept as
LOGICAL = {"satoshi": "long", "millisatoshi": "long", "height": "long", "hash": "string", "timestamp-micros": "long"}


def parsed(schema: Mapping[str, Any]) -> avro.schema.Schema:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", avro.errors.IgnoredLogicalType)
        return avro.schema.parse(json.dumps(schema))


def is_compatible(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether each reads what is written with the other."""
    pairs = itertools.permutations((parsed(one), parsed(other)), 2)
    found = [ReaderWriterCompatibilityChecker().get_compatibility(reader, writer) for reader, writer in pairs]
    return all(answer.compatibility is SchemaCompatibilityType.compatible for answer in found)


def changed_since_release(released: Mapping[str, str]) -> list[str]:
    """The files of schemas that a release had and that are not there as they were."""
    return [
        path
        for path, text in released.items()
        if not (ROOT / path).is_file() or json.loads((ROOT / path).read_text()) != json.loads(text)
    ]


def example(kind: Any) -> Any:
    """Something that fits an Avro type."""
    if isinstance(kind, list):
        return example(kind[-1])
    if isinstance(kind, str):
        return {"string": "text", "long": 7, "boolean": True}[kind]
    if kind["type"] == "record":
        return {field["name"]: example(field["type"]) for field in kind["fields"]}
    if kind["type"] == "array":
        return [example(kind["items"])]
    if kind["type"] == "map":
        return {"name": example(kind["values"])}
    if kind["type"] == "enum":
        return kind["symbols"][-1]
    return MOMENT if kind.get("logicalType") == "timestamp-micros" else example(kind["type"])


def common(event: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What an event has of the fields of another one."""
    return {
        key: common(value, other[key]) if isinstance(value, dict) else value
        for key, value in event.items()
        if key in other
    }


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("topic", SCHEMAS)
def test_versions_of_a_schema_read_each_other(topic: str) -> None:
    assert all(itertools.starmap(is_compatible, itertools.combinations(SCHEMAS[topic], 2)))
    assert is_compatible(SCHEMAS[topic][-1], SCHEMAS[topic][-1])


@pytest.mark.parametrize("topic", SCHEMAS)
def test_events_of_each_version_are_read_with_each_other_one(topic: str) -> None:
    for written, read in itertools.product(SCHEMAS[topic], repeat=2):
        event = example(written)
        found = Codec([written, read]).decode(Codec([written]).encode(event))
        assert found.keys() == example(read).keys()
        assert common(found, event) == common(event, found)


@pytest.mark.parametrize("topic", SCHEMAS)
def test_logical_types_are_those_of_the_documentation(topic: str) -> None:
    text = json.dumps(SCHEMAS[topic][-1])
    kept = re.findall(r'"type": "(\w+)", "logicalType": "([\w-]+)"', text)
    assert text.count("logicalType") == len(kept)
    assert [found for found in kept if LOGICAL.get(found[1]) != found[0]] == []


def test_schema_of_the_last_release_is_unchanged() -> None:
    tags = git("tag", "--list", "v*", "--merged=HEAD", "--sort=-version:refname").split()
    paths = git("ls-tree", "-r", "--name-only", tags[0], str(COLLECTION.relative_to(ROOT))) if tags else ""
    released = {path: git("show", f"{tags[0]}:{path}") for path in paths.splitlines() if path.endswith(".avsc")}
    assert changed_since_release(released) == []


ORDER: dict[str, Any] = {"type": "record", "name": "order", "fields": [{"name": "amount", "type": "long"}]}
NOTE = {"name": "note", "type": "string"}


@pytest.mark.parametrize(
    ("fields", "compatible"),
    [
        ([ORDER["fields"][0], {**NOTE, "default": ""}], True),
        ([ORDER["fields"][0], NOTE], False),
        ([], False),
        ([{"name": "amount", "type": "string"}], False),
        ([{"name": "amount", "type": "int"}], False),
    ],
)
def test_incompatible_version_is_seen(fields: list[dict[str, Any]], compatible: bool) -> None:
    assert is_compatible(ORDER, {**ORDER, "fields": fields}) is compatible


def test_event_of_an_incompatible_version_is_not_read_wrongly() -> None:
    written = Codec([ORDER]).encode({"amount": 7})
    other = {**ORDER, "fields": [{"name": "amount", "type": "string"}]}
    with pytest.raises(Fault):
        Codec([ORDER, other]).decode(written)


def test_changed_file_of_a_release_is_seen() -> None:
    path = str((COLLECTION / "roles/bitcoind/events/block.1.avsc").relative_to(ROOT))
    text = (ROOT / path).read_text()
    assert changed_since_release({path: text}) == []
    assert changed_since_release({path: text.replace("height", "level"), "gone.1.avsc": "{}"}) == [path, "gone.1.avsc"]
