# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answer `bcm events`: which topics there are, and their events."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from datetime import time as clock
from decimal import Decimal
from typing import Any

from bcm_guest.event_codec import Codec
from bcm_guest.kafka import PLACE, READER, login, read_password
from bcm_guest.prove import Fault
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

_PATIENCE = 20  # seconds for one answer
_HOUR = 3600 * 1000
_NOT_YET = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
#: events of one answer, also if they are of several topics, and bytes of those that have no schema
_MOST, _MOST_OF_ALL, _SHOWN = 500, 5000, 2000
#: bytes of an answer about several topics after which no more events come; LXD gives at most twice as many
_SIZE = 8 * 2**20


def connect(verb: str) -> Consumer:
    options = {**login(PLACE, READER, read_password(READER)), "group.id": READER, "enable.auto.commit": False}
    # What is deleted between a look and the reading is not to hide what comes after it.
    return Consumer({**options, "auto.offset.reset": "earliest", "enable.partition.eof": verb == "read_all"})


def list_topics(reader: Consumer, _request: dict[str, Any]) -> dict[str, Any]:
    """How many events the broker has of each topic, how many of the last hour, and when the newest was written."""
    names = topics(reader)
    hour_ago = int(time.time() * 1000) - _HOUR
    partitions = [TopicPartition(name, 0, hour_ago) for name in names]
    since = {found.topic: found.offset for found in reader.offsets_for_times(partitions, timeout=_PATIENCE)}
    kept = {name: bounds(reader, name) for name in names}
    written = newest(reader, {name: high for name, (low, high) in kept.items() if low < high})
    return {
        "topics": {
            name: {
                "events": high - low,
                "last_hour": high - since[name] if since[name] >= 0 else 0,
                "newest": moment(written[name]) if name in written else None,
            }
            for name, (low, high) in kept.items()
        }
    }


def newest(reader: Consumer, ends: dict[str, int]) -> dict[str, int]:
    """When the last record before a position of each topic was written, in ms. Raises Fault.

    One assignment for all: after each, the broker answers as late as it does to those who wait for a new record.
    """
    reader.assign([TopicPartition(name, 0, end - 1) for name, end in ends.items()])
    found: dict[str, int] = {}
    while len(found) < len(ends):
        if not (records := checked(reader.consume(1, _PATIENCE))):
            break
        found |= {record.topic(): record.timestamp()[1] for record in records}
    return found


def read_events(reader: Consumer, request: dict[str, Any]) -> dict[str, Any]:
    """Events from a position on, or the newest ones, as they are in their schema; and the position after them.

    ``kept`` is how many the topic has. Without the topic there are none, and ``topics`` are those that exist.
    """
    name, names = request["topic"], topics(reader)
    low, high = bounds(reader, name) if name in names else (0, 0)
    position = request["position"]
    start = max(low, high - request["newest"]) if position is None else begin(position, low, high)
    most = max(1, min(_MOST, high - start))
    is_read = name in names and (start < high or request["waits"])
    records = read(reader, name, start, most) if is_read else []
    codec = Codec(request["schemas"]) if request["schemas"] else None
    return {
        "topics": names,
        "kept": high - low,
        "events": [describe(codec, record.value() or b"") for record in records],
        "position": records[-1].offset() + 1 if records else start,
    }


def read_all(reader: Consumer, request: dict[str, Any]) -> dict[str, Any]:
    """Events of several topics, each from a position on, or from its beginning; and the positions after them.

    A topic that does not exist has no position. ``left`` is how many there are after these, and ``unreadable`` how many
    are left out since they fit no schema. Raises Fault if the broker gives none of those that it has.
    """
    names = existing(reader, request["positions"], request["waits"])
    kept = {name: bounds(reader, name) for name in names}
    positions = {name: begin(request["positions"][name], *kept[name]) for name in names}
    codecs = {name: Codec(request["schemas"][name]) for name in names}
    events: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    unfinished = {name for name in names if positions[name] < kept[name][1]}
    count = size = unreadable = 0
    reader.assign([TopicPartition(name, 0, position) for name, position in positions.items()])
    while count < _MOST_OF_ALL and size < _SIZE and (unfinished or (names and request["waits"] and not count)):
        record = reader.poll(_PATIENCE)
        if record is None:
            break
        topic = record.topic()
        if record.error() and record.error().code() == KafkaError._PARTITION_EOF:
            # There may be positions without an event before it.
            positions[topic] = record.offset()
            unfinished.discard(topic)
            continue
        (record,) = checked([record])
        event = describe(codecs[topic], record.value() or b"")
        positions[topic] = record.offset() + 1
        count += 1
        size += len(json.dumps(event))
        if "fault" in event:
            unreadable += 1
        else:
            events[topic].append(event)
    left = sum(max(0, high - positions[name]) for name, (_low, high) in kept.items())
    if left and not count:
        raise Fault(f"it has {left} more events, and gave none within {_PATIENCE} s")
    return {"events": events, "positions": positions, "left": left, "unreadable": unreadable}


def begin(position: int | None, low: int, high: int) -> int:
    """Where to go on in a topic: at its beginning if what was next is gone, or the topic was made again."""
    return position if position is not None and low <= position <= high else low


def existing(reader: Consumer, names: Iterable[str], waits: bool) -> list[str]:
    """Those of some topics that exist; if it ``waits``, as soon as there is one, and none after some seconds."""
    end = time.monotonic() + _PATIENCE
    while not (found := sorted(set(names).intersection(topics(reader)))) and waits and time.monotonic() < end:
        time.sleep(1)
    return found


def topics(reader: Consumer) -> list[str]:
    return sorted(name for name in reader.list_topics(timeout=_PATIENCE).topics if not name.startswith("__"))


def bounds(reader: Consumer, name: str) -> tuple[int, int]:
    """The positions of the oldest event of a topic, and of the next one."""
    low, high = reader.get_watermark_offsets(TopicPartition(name, 0), timeout=_PATIENCE)
    return low, high


def read(reader: Consumer, name: str, start: int, most: int) -> list[Any]:
    """Records from a position on, as soon as there are any; none if there is none for some seconds. Raises Fault."""
    reader.assign([TopicPartition(name, 0, start)])
    records = reader.consume(1, _PATIENCE)
    if records and most > 1:
        records += reader.consume(most - 1, 1)
    return checked(records)


def checked(records: list[Any]) -> list[Any]:
    """Records without a fault. Raises Fault."""
    for record in records:
        if record.error():
            raise Fault(f"{record.topic()}: {record.error().str()}")
    return list(records)


def describe(codec: Codec | None, value: bytes) -> dict[str, Any]:
    """An event; why it cannot be read; or, if there is no schema, its text."""
    if codec is None:
        return {"value": value[:_SHOWN].decode(errors="backslashreplace")}
    try:
        return {name: plain(field) for name, field in codec.decode(value).items()}
    except Fault as fault:
        return {"fault": str(fault)}


def plain(value: Any) -> Any:
    """A value of Avro as JSON has it: bytes in hexadecimal, times and decimals as text, and no number that is none."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date | clock):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


ANSWERS: dict[str, Callable[[Consumer, dict[str, Any]], dict[str, Any]]] = {
    "list": list_topics,
    "read": read_events,
    "read_all": read_all,
}


def answer(reader: Consumer, request: dict[str, Any]) -> dict[str, Any]:
    """What is asked for. A broker that has just started has no leaders of partitions yet. Raises KafkaException."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return ANSWERS[request["verb"]](reader, request)
        except KafkaException as fault:
            if fault.args[0].code() not in _NOT_YET or time.monotonic() > end:
                raise
        time.sleep(0.2)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    reader = connect(asked["verb"])
    try:
        answered = answer(reader, asked)
    except (Fault, KafkaException) as fault:
        raise SystemExit(f"the broker does not say it: {fault}") from fault
    finally:
        reader.close()
    json.dump(answered, sys.stdout)
