# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A topic of the broker, to which a source writes events, and in which it finds where it has to go on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bcm_guest.event_codec import Codec, Unfit
from bcm_guest.prove import Fault
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

_PATIENCE = 20  # seconds for one answer
#: events that wait for the broker; then the source waits
_QUEUE = 5000
#: where events are that do not fit their schema
_UNFIT = "collector.unfit"


class Lost(Exception):
    """The broker has refused an event, so what comes after it must not be written."""


class Broker:
    """The connection to the broker, which the topics of a source share."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._producer: Producer | None = None
        self._lost = ""

    @contextlib.contextmanager
    def reading(self, topic: str) -> Iterator[tuple[Consumer, int, int]]:
        """A reader, the number of the first event of a topic, and that of the next one to come. Raises Fault."""
        client = self.settings["client"]
        reader = Consumer({**client, "group.id": client["sasl.username"]})
        try:
            yield reader, *reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=_PATIENCE)
        except KafkaException as error:
            raise Fault(f"the broker does not say what {topic} has: {error}") from error
        finally:
            reader.close()

    def write(self, topic: str, key: str, value: bytes) -> None:
        """Write an event; wait as long as the broker is away and too much waits for it. Raises Lost."""
        while True:
            self.check()
            try:
                self._connected().produce(topic, value, key, callback=self._hear)
                return
            except BufferError:
                self._connected().poll(1)

    def check(self) -> None:
        """Hear what the broker has acknowledged. Raises Lost."""
        self._connected().poll(0)
        if self._lost:
            raise Lost(self._lost)

    def flush(self, seconds: float) -> None:
        """Wait until the broker has acknowledged all. Raises Fault if it has not within some seconds, and Lost."""
        waiting = self._connected().flush(seconds)
        self.check()
        if waiting:
            raise Fault(f"the broker has not acknowledged {waiting} events")

    def _connected(self) -> Producer:
        if self._producer is None:
            # With idempotence, nothing is written twice, or in another order, as long as this program runs.
            more = {"enable.idempotence": True, "message.timeout.ms": 0, "queue.buffering.max.messages": _QUEUE}
            self._producer = Producer({**self.settings["client"], **more})
        return self._producer

    def _hear(self, error: Any, record: Any) -> None:
        if error:
            self._lost = self._lost or f"{record.topic()}: {error.str()}"


class Topic:
    """The events that a source has written, and writes, in their order.

    Where the source has to go on is what the newest one says: nothing else is kept, so nothing else can differ.
    """

    def __init__(self, name: str, broker: Broker, stack: str) -> None:
        self._name = name
        self._broker = broker
        self._stack = stack
        self._codec = Codec(broker.settings["schemas"][name])
        self._last: Mapping[str, Any] | None = None

    def newest(self) -> dict[str, Any] | None:
        """The newest event; None if there is none. Raises Fault."""
        return next(iter(self.newest_ones(1)), None)

    def newest_ones(self, most: int) -> list[dict[str, Any]]:
        """The newest events, in their order. Raises Fault."""
        with self._broker.reading(self._name) as (reader, low, high):
            start = max(low, high - most)
            reader.assign([TopicPartition(self._name, 0, start)])
            events = [self._read(reader) for _offset in range(start, high)]
        self._last = events[-1]["event"] if events else None
        return events

    def _read(self, reader: Consumer) -> dict[str, Any]:
        record = reader.poll(_PATIENCE)
        if record is None or record.error():
            raise Fault(f"the newest events of {self._name} cannot be read: {record and record.error()}")
        return self._codec.decode(record.value())

    def write(
        self,
        key: str,
        body: Mapping[str, Any],
        version: str,
        when: datetime,
        precision: timedelta,
        reported: bool = False,
    ) -> None:
        """Write what happened after the newest event. Raises Lost.

        If it does not fit the schema of the topic, it is kept aside, and the next one has its number.
        """
        before = self._last or {"id": "", "sequence": 0}
        # The same after the same, so whoever reads it twice recognises that.
        told = json.dumps([before["id"], self._name, body], sort_keys=True, default=str)
        envelope = {
            "id": hashlib.sha256(told.encode()).hexdigest()[:32],
            "sequence": before["sequence"] + 1,
            "time": when,
            "time_source": "reported" if reported else "observed",
            "time_precision": precision // timedelta(microseconds=1),
            "datacenter": self._broker.settings["datacenter"],
            "chain": self._broker.settings["chain"],
            "stack": self._stack,
            "instance": self._stack,
            "version": version,
            "host": self._broker.settings["hosts"][self._stack],
        }
        try:
            event = self._codec.encode({"event": envelope, **body})
        except Unfit as fault:
            self._keep_aside(envelope, body, str(fault))
        else:
            self._broker.write(self._name, key, event)
            self._last = envelope

    def _keep_aside(self, envelope: Mapping[str, Any], body: Mapping[str, Any], why: str) -> None:
        print(f"an event does not fit {self._name}: {why}", file=sys.stderr, flush=True)
        content = json.dumps(body, sort_keys=True, default=str)
        aside = {"event": envelope, "topic": self._name, "why": why, "content": content}
        self._broker.write(_UNFIT, self._name, Codec(self._broker.settings["schemas"][_UNFIT]).encode(aside))


def count_unfit(settings: Mapping[str, Any]) -> int:
    """How many events are kept aside. Raises Fault."""
    with Broker(settings).reading(_UNFIT) as (_reader, low, high):
        return high - low


class Source:
    """What is written of a stack, to topics of the given names."""

    def __init__(self, settings: Mapping[str, Any], stack: str, *names: str) -> None:
        self.broker = Broker(settings)
        self.topics = [Topic(f"{stack}.{name}", self.broker, stack) for name in names]

    def begin(self) -> None:
        """Find where to go on, and write what was missed. Raises Fault, after which it is called again, and Lost."""
        raise NotImplementedError

    def step(self) -> None:
        """Wait for what is new, and write it. Raises Fault, after which it is called again, and Lost."""
        raise NotImplementedError


def run(stack: str, source: Callable[[Mapping[str, Any]], Source], show: Callable[[Mapping[str, Any]], Any]) -> None:
    """The program of a source: ``follow`` writes what happens; any other word prints what verify looks at, as JSON.

    That is what ``show`` returns (``found``), and how many events of all sources are kept aside (``unfit``). Both
    functions are called with the settings. Ends the program with the fault that it has met.
    """
    try:
        settings = json.loads(Path(f"/etc/collector/{stack}.json").read_text())
        if sys.argv[1] == "follow":
            keep_on(source(settings))
        else:
            print(json.dumps({"found": show(settings), "unfit": count_unfit(settings)}, default=datetime.isoformat))
    except (Fault, Lost) as fault:
        raise SystemExit(str(fault)) from fault


def keep_on(source: Source) -> None:
    """Write what happens, for ever; wait while there is a Fault. Raises Lost."""
    act, waits_for = source.begin, ""
    while True:
        try:
            act()
            source.broker.check()
            act, waits_for = source.step, ""
        except Fault as fault:
            # The newest event, or the source, cannot be read at the moment.
            if str(fault) != waits_for:
                waits_for = str(fault)
                print(f"waiting: {fault}", file=sys.stderr, flush=True)
            time.sleep(1)


def now() -> datetime:
    return datetime.now(UTC)
