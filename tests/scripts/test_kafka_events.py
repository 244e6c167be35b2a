# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm events query` is answered of several topics. tests/e2e has a real broker."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.event_codec import Codec
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from tests.support import COLLECTION

PROGRAM = COLLECTION / "roles/kafka/scripts/events.py"
SCHEMA = {"type": "record", "name": "e", "fields": [{"name": "n", "type": "long"}, {"name": "t", "type": "string"}]}
END = SimpleNamespace(code=lambda: -191)


class Reader:
    """Topics as a client of Kafka sees them: position -> event, and where the next one will be."""

    def __init__(self, **topics: tuple[dict[int, bytes], int]) -> None:
        self.records = {name.replace("_", "."): records for name, (records, _next) in topics.items()}
        self.next = {name.replace("_", "."): end for name, (_held, end) in topics.items()}
        self.waiting: list[tuple[str, int]] = []
        self.comes: Callable[[], None] = lambda: None
        self.is_silent = False

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics=dict.fromkeys(self.records))

    def get_watermark_offsets(self, place: tuple[str, int, int], timeout: float) -> tuple[int, int]:
        name = place[0]
        return min(self.records[name], default=self.next[name]), self.next[name]

    def assign(self, places: list[tuple[str, int, int]]) -> None:
        self.waiting = [(name, offset) for name, _partition, offset in places]
        self.comes()

    def consume(self, count: int, _timeout: float) -> list[Any]:
        found = [self.poll(0) for _number in range(count)]
        return [record for record in found if record is not None and record.error() is None]

    def poll(self, _timeout: float) -> Any:
        if self.is_silent or not self.waiting:
            return None
        name, start = self.waiting.pop(0)
        offset = next((one for one in sorted(self.records[name]) if one >= start), None)
        if offset is None:
            place = self.next[name]
            return SimpleNamespace(topic=lambda: name, error=lambda: END, offset=lambda: place)
        self.waiting.append((name, offset + 1))
        value = self.records[name][offset]
        return SimpleNamespace(topic=lambda: name, error=lambda: None, offset=lambda: offset, value=lambda: value)


def encoded(*numbers: int, text: str = "") -> dict[int, bytes]:
    codec = Codec([SCHEMA])
    return {number: codec.encode({"n": number, "t": text}) for number in numbers}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    module: Any = ModuleType("confluent_kafka")
    module.Consumer, module.KafkaException = Reader, OSError
    module.KafkaError = SimpleNamespace(NOT_LEADER_FOR_PARTITION=6, LEADER_NOT_AVAILABLE=5, _PARTITION_EOF=-191)
    module.TopicPartition = lambda topic, partition, offset=0: (topic, partition, offset)
    monkeypatch.setitem(sys.modules, "confluent_kafka", module)
    spec = importlib.util.spec_from_file_location("kafka_events", PROGRAM)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def read(program: Any, reader: Reader, waits: bool = False, **positions: int | None) -> dict[str, Any]:
    named = {name.replace("_", "."): position for name, position in positions.items()}
    request = {"positions": named, "waits": waits, "schemas": dict.fromkeys(named, [SCHEMA])}
    return dict(json.loads(json.dumps(program.read_all(reader, request))))


def numbers(found: dict[str, Any]) -> dict[str, list[int]]:
    return {name: [event["n"] for event in events] for name, events in found["events"].items()}


def test_events_of_all_topics_come_from_where_somebody_was(program: Any) -> None:
    reader = Reader(a_x=(encoded(0, 1, 2), 3), b_x=(encoded(5, 6), 7), c_x=({}, 4))
    found = read(program, reader, a_x=1, b_x=None, c_x=None, d_x=None)
    assert numbers(found) == {"a.x": [1, 2], "b.x": [5, 6], "c.x": []}
    assert (found["positions"], found["left"]) == ({"a.x": 3, "b.x": 7, "c.x": 4}, 0)
    assert read(program, reader, a_x=3, b_x=7, c_x=4)["events"] == {"a.x": [], "b.x": [], "c.x": []}


def test_what_comes_meanwhile_hides_nothing_of_another_topic(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_MOST_OF_ALL", 5)
    reader = Reader(a_x=(encoded(*range(3)), 3), b_x=(encoded(*range(5)), 5))
    reader.comes = lambda: reader.records["a.x"].update(encoded(*range(3, 40)))
    positions: dict[str, int | None] = {"a_x": None, "b_x": None}
    seen: list[int] = []
    for _attempt in range(9):
        found = read(program, reader, **positions)
        seen += numbers(found)["b.x"]
        positions = {name.replace(".", "_"): position for name, position in found["positions"].items()}
        if not found["left"]:
            break
    assert seen == list(range(5))


def test_answer_ends_before_it_is_too_long(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "_SIZE", 1000)
    reader = Reader(a_x=(encoded(*range(9), text="x" * 400), 9))
    found = read(program, reader, a_x=None)
    assert (numbers(found)["a.x"], found["positions"], found["left"]) == ([0, 1, 2], {"a.x": 3}, 6)


def test_positions_without_an_event_are_not_waited_for(program: Any) -> None:
    found = read(program, Reader(a_x=(encoded(0, 4), 9)), a_x=None)
    assert (numbers(found)["a.x"], found["positions"], found["left"]) == ([0, 4], {"a.x": 9}, 0)


@pytest.mark.parametrize("position", [3, 99])
def test_topic_that_lost_what_was_next_is_read_from_its_beginning(program: Any, position: int) -> None:
    reader = Reader(a_x=(encoded(5, 6), 7))
    assert numbers(read(program, reader, a_x=position))["a.x"] == [5, 6]
    request = {"topic": "a.x", "position": position, "newest": 1, "waits": True, "schemas": [SCHEMA]}
    assert [event["n"] for event in program.read_events(reader, request)["events"]] == [5, 6]


def test_broker_that_gives_nothing_of_what_it_has_is_a_fault(program: Any) -> None:
    reader = Reader(a_x=(encoded(0, 1), 2))
    reader.is_silent = True
    with pytest.raises(Fault, match="2 more events"):
        read(program, reader, a_x=None)
    assert read(program, reader, waits=True, a_x=2)["positions"] == {"a.x": 2}


def test_first_event_that_comes_is_enough_for_who_waits(program: Any) -> None:
    reader = Reader(a_x=(encoded(0), 1), b_x=({}, 0))
    reader.comes = lambda: reader.records["b.x"].update(encoded(0))
    assert numbers(read(program, reader, waits=True, a_x=1, b_x=None)) == {"a.x": [], "b.x": [0]}


def test_event_that_fits_no_schema_is_counted(program: Any) -> None:
    found = read(program, Reader(a_x=({0: b"7", **encoded(1)}, 2)), a_x=None)
    assert (numbers(found)["a.x"], found["unreadable"]) == ([1], 1)


def test_values_are_what_json_has(program: Any) -> None:
    moment = datetime(2026, 12, 1, tzinfo=UTC)
    values = [b"\x00\xff", moment, moment.date(), moment.time(), Decimal("1.50"), float("nan"), float("inf"), 1.5, None]
    known = ["00ff", "2026-12-01T00:00:00+00:00", "2026-12-01", "00:00:00", "1.50", None, None, 1.5, None]
    assert program.plain({"list": values}) == {"list": known}
