# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answer `bcm events`: which topics there are, and the events of one of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bcm_guest.event_codec import Codec
from bcm_guest.kafka import PLACE, READER, login, read_password
from bcm_guest.prove import Fault
from confluent_kafka import Consumer, KafkaException, TopicPartition

_PATIENCE = 20  # seconds for one answer
_HOUR = 3600 * 1000
#: events of one answer, and bytes of those that have no schema
_MOST, _SHOWN = 500, 2000


def connect() -> Consumer:
    options = {**login(PLACE, READER, read_password(READER)), "group.id": READER, "enable.auto.commit": False}
    return Consumer(options)


def list_topics(reader: Consumer, _request: dict[str, Any]) -> dict[str, Any]:
    """How many events the broker has of each topic, how many of the last hour, and when the newest was written."""
    found = {}
    for name in sorted(name for name in reader.list_topics(timeout=_PATIENCE).topics if not name.startswith("__")):
        low, high = bounds(reader, name)
        hour_ago = TopicPartition(name, 0, int(time.time() * 1000) - _HOUR)
        (since,) = reader.offsets_for_times([hour_ago], timeout=_PATIENCE)
        newest = read(reader, name, high - 1, 1, _PATIENCE) if low < high else []
        found[name] = {
            "events": high - low,
            "last_hour": high - since.offset if since.offset >= 0 else 0,
            "newest": moment(newest[0].timestamp()[1]) if newest else None,
        }
    return {"topics": found}


def read_events(reader: Consumer, request: dict[str, Any]) -> dict[str, Any]:
    """Events from a position on, or the newest ones, as they are in their schema; and the position after them."""
    name = request["topic"]
    low, high = bounds(reader, name)
    start = high - request["newest"] if request["position"] is None else request["position"]
    # What is gone, or a topic that was made again.
    start = min(max(start, low), high)
    most = max(1, min(_MOST, high - start))
    records = read(reader, name, start, most, request["seconds"])
    codec = Codec(request["schemas"]) if request["schemas"] else None
    return {
        "events": [describe(codec, record.value() or b"") for record in records],
        "position": records[-1].offset() + 1 if records else start,
    }


def bounds(reader: Consumer, name: str) -> tuple[int, int]:
    """The positions of the oldest event of a topic, and of the next one."""
    low, high = reader.get_watermark_offsets(TopicPartition(name, 0), timeout=_PATIENCE)
    return low, high


def read(reader: Consumer, name: str, start: int, most: int, seconds: float) -> list[Any]:
    """Records from a position on, as soon as there are any; none if there is none for some seconds. Raises Fault."""
    reader.assign([TopicPartition(name, 0, start)])
    records = reader.consume(1, seconds)
    if records and most > 1:
        records += reader.consume(most - 1, 1)
    for record in records:
        if record.error():
            raise Fault(f"{name}: {record.error().str()}")
    return list(records)


def describe(codec: Codec | None, value: bytes) -> dict[str, Any]:
    """An event; why it cannot be read; or, if there is no schema, its text."""
    if codec is None:
        return {"value": value[:_SHOWN].decode(errors="backslashreplace")}
    try:
        return codec.decode(value)
    except Fault as fault:
        return {"fault": str(fault)}


def moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


ANSWERS: dict[str, Callable[[Consumer, dict[str, Any]], dict[str, Any]]] = {"list": list_topics, "read": read_events}

if __name__ == "__main__":
    asked = json.load(sys.stdin)
    reader = connect()
    try:
        answer = ANSWERS[asked["verb"]](reader, asked)
    except (Fault, KafkaException) as fault:
        raise SystemExit(f"the broker does not say it: {fault}") from fault
    finally:
        reader.close()
    json.dump(answer, sys.stdout, default=datetime.isoformat)
