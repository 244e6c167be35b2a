# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A topic of the broker, to which a source writes events, and in which it finds where it has to go on."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from bcm_guest.event_codec import Codec, Unfit
from bcm_guest.prove import Fault
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

_PATIENCE = 20  # seconds for one answer
#: events that wait for the broker; then the source waits
_QUEUE = 5000
#: where events are that do not fit their schema
UNFIT = "collector.unfit"


class Lost(Exception):
    """The broker has refused an event, or the client has ended, so what comes after it must not be written."""


class Broker:
    """The connections to the broker, which the topics of a source share: one that reads, and one that writes."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._producer: Producer | None = None
        self._reader: Consumer | None = None
        self._lost = ""

    def read(self, topic: str, most: int) -> list[bytes]:
        """The newest events of a topic, in their order. Raises Fault. Connected until ``stop_reading``."""
        reader, low, high = self._look_at(topic)
        start = max(low, high - most)
        reader.assign([TopicPartition(topic, 0, start)])
        records = [reader.poll(_PATIENCE) for _offset in range(start, high)]
        reader.unassign()
        for record in records:
            if record is None or record.error():
                raise Fault(f"the newest events of {topic} cannot be read: {record and record.error()}")
        return [record.value() for record in records]

    def count(self, topic: str) -> int:
        """How many events a topic has. Raises Fault. Connected until ``stop_reading``."""
        _reader, low, high = self._look_at(topic)
        return high - low

    def stop_reading(self) -> None:
        """Close the connection that reads: who only writes has no use for its threads and its memory."""
        if self._reader:
            self._reader.close()
            self._reader = None

    def _look_at(self, topic: str) -> tuple[Consumer, int, int]:
        """The reader, the number of the first event of a topic, and that of the next one to come. Raises Fault."""
        if self._reader is None:
            client = self.settings["client"]
            # Where it was is kept nowhere: the commit takes up to a second for each topic. And nobody waits for more.
            quick = {"enable.auto.commit": False, "fetch.wait.max.ms": 1}
            self._reader = Consumer({**client, **quick, "group.id": client["sasl.username"]})
        try:
            return self._reader, *self._reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=_PATIENCE)
        except KafkaException as error:
            raise Fault(f"the broker does not say what {topic} has: {error}") from error

    def write(self, topic: str, key: str, value: bytes) -> None:
        """Write an event; wait as long as the broker is away and too much waits for it. Raises Lost."""
        while True:
            self.check()
            try:
                self._connected().produce(topic, value, key, callback=self._hear)
                return
            except BufferError:
                self._poll(1)
            except KafkaException as error:
                raise Lost(f"the client of kafka has ended: {error}") from error

    def check(self) -> None:
        """Hear what the broker has acknowledged. Raises Lost."""
        self._poll(0)
        if self._lost:
            raise Lost(self._lost)

    def _poll(self, seconds: float) -> None:
        try:
            self._connected().poll(seconds)
        except KafkaException as error:
            raise Lost(f"the client of kafka has ended: {error}") from error

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
        events = [self._codec.decode(value) for value in self._broker.read(self._name, most)]
        self._last = events[-1]["event"] if events else None
        return events

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
        self._broker.write(UNFIT, self._name, Codec(self._broker.settings["schemas"][UNFIT]).encode(aside))


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


def read_settings(stack: str) -> dict[str, Any]:
    """The settings of a source's program."""
    return dict(json.loads(Path(f"/etc/collector/{stack}.json").read_text()))


def run(stack: str, source: Callable[[Mapping[str, Any]], Source]) -> None:
    """The program of a source, which is called with its settings. Ends with the fault that it has met."""
    try:
        keep_on(source(read_settings(stack)))
    except (Fault, Lost) as fault:
        raise SystemExit(str(fault)) from fault


def keep_on(source: Source) -> None:
    """Write what happens, for ever; wait while there is a Fault. Raises Lost."""
    act, waits_for = source.begin, ""
    while True:
        try:
            act()
            source.broker.check()
            source.broker.stop_reading()
            act, waits_for = source.step, ""
        except Fault as fault:
            source.broker.stop_reading()
            # The newest event, or the source, cannot be read at the moment.
            if str(fault) != waits_for:
                waits_for = str(fault)
                print(f"waiting: {fault}", file=sys.stderr, flush=True)
            time.sleep(1)


def end_with(answer: str) -> NoReturn:
    """Print an answer, and end the program with it.

    The threads of a connection take up to a second to end, which is when nothing refers to its Broker any more.
    """
    print(answer, flush=True)
    os._exit(0)


def now() -> datetime:
    return datetime.now(UTC)
