# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role collector writes of journals, with instances of the tests. tests/e2e has the real journalctl."""

from __future__ import annotations

import importlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scripts.test_collector import KNOWN, Broker, broker
from tests.support import until

__all__ = ["broker"]

SECRET = "Zm9yIG5vYm9keSBlbHNlIHRoYW4gbG5kIGFuZCB5b3U"
#: 2026-11-30 12:00:00 UTC, in microseconds
NOON = 1_796_040_000_000_000


def entry(number: int, message: Any = "it works", *, seconds: float = 0, **fields: Any) -> dict[str, Any]:
    """An entry as `journalctl --output=json` prints it; its cursor is its number."""
    own = {"__CURSOR": f"c{number}", "__REALTIME_TIMESTAMP": str(NOON + int(seconds * 1_000_000)), "MESSAGE": message}
    trusted = {"_SYSTEMD_UNIT": "lnd.service", "_PID": "7", "_CMDLINE": f"lnd --password={SECRET}"}
    return {"PRIORITY": "6", "SYSLOG_IDENTIFIER": "lnd", **trusted, **own, **fields}


class Instance:
    """What systemd does at the port of an instance: a program for each connection, which prints the journal."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.place = {"address": "127.0.0.1", "port": self._listener.getsockname()[1], "reader": "127.0.0.1"}
        self._connection: socket.socket | None = None
        self.asked: list[str] = []

    def accept(self) -> None:
        """Take the connection that waits, and print what comes after the entry that it names."""
        self._connection, _address = self._listener.accept()
        after = self._connection.makefile().readline().strip()
        self.asked.append(after)
        self.print(*(item for item in self.entries if not after or int(item["__CURSOR"][1:]) > int(after[1:])))

    def write(self, *entries: dict[str, Any]) -> None:
        self.entries += entries
        self.print(*entries)

    def print(self, *entries: dict[str, Any], text: bytes = b"") -> None:
        assert self._connection is not None
        self._connection.sendall(b"".join(json.dumps(item).encode() + b"\n" for item in entries) + text)

    def hang_up(self) -> None:
        assert self._connection is not None
        self._connection.close()

    def close(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()


@pytest.fixture
def lnd() -> Iterator[Instance]:
    lnd = Instance()
    yield lnd
    lnd.close()


def collector(lnd: Instance, **others: Instance) -> Any:
    """A collector that was just started, and has asked for the journals."""
    module = importlib.import_module("collector_journal")
    places = {name: instance.place for name, instance in {"lnd": lnd, **others}.items()}
    settings = {
        "client": {"sasl.username": "collector"}, "schemas": KNOWN, "datacenter": "a", "chain": "regtest",
        "hosts": dict.fromkeys(places, "box"), "journals": places,
    }  # fmt: skip
    source = module.Journals(settings)
    source.begin()
    source.step()
    lnd.accept()
    return source


def logged(broker: Broker, topic: str = "lnd.log") -> list[dict[str, Any]]:
    return broker.events(topic)


def follow(source: Any, broker: Broker, count: int) -> list[dict[str, Any]]:
    """The events of lnd, once there are so many."""

    def is_there() -> bool:
        source.step()
        return len(logged(broker)) >= count

    until(is_there, f"{count} events")
    return logged(broker)


def test_entries_are_events_without_secrets(broker: Broker, lnd: Instance) -> None:
    lnd.entries = [
        entry(1, f"user collector:{SECRET} is refused", PRIORITY="4", MESSAGE_ID="1f", CODE_FILE=f"a {SECRET}"),
        entry(2, list("Ünits: ☃ \x1b[0m".encode()), UNIT="tls.service", _SYSTEMD_UNIT="init.scope", PRIORITY=None),
        entry(3, None, SYSLOG_IDENTIFIER=["a", "b"]),
    ]
    events = follow(collector(lnd), broker, 3)
    first, second, third = ({key: value for key, value in event.items() if key != "event"} for event in events)
    assert first == {
        "unit": "lnd.service", "identifier": "lnd", "priority": "warning", "left_out": 0, "cursor": "c1",
        "message": "user collector:[masked] is refused", "fields": {"CODE_FILE": "a [masked]", "MESSAGE_ID": "1f"},
    }  # fmt: skip
    assert (second["unit"], second["priority"], second["message"]) == ("tls.service", "info", "Ünits: ☃ \x1b[0m")
    assert (third["message"], third["identifier"]) == (None, "a b")
    envelope = events[0]["event"]
    assert (envelope["stack"], envelope["host"], envelope["time"].isoformat()) == (
        "lnd", "box", "2026-11-30T12:00:00+00:00",
    )  # fmt: skip
    assert [event["event"]["sequence"] for event in events] == [1, 2, 3]
    assert not any(SECRET.encode() in value for _key, value in broker.topics["lnd.log"])


def test_collector_goes_on_after_the_newest_event_whatever_ends(broker: Broker, lnd: Instance) -> None:
    lnd.entries = [entry(1), entry(2)]
    first = collector(lnd)
    follow(first, broker, 2)
    # The instance ends the connection in the middle of an entry.
    lnd.print(text=json.dumps(entry(3)).encode()[:40])
    lnd.hang_up()
    lnd.entries.append(entry(3))
    until(lambda: first.step() or first._journals[0].connection is None, "the connection has ended")
    first._journals[0].due = 0
    first.step()
    lnd.accept()
    follow(first, broker, 3)
    lnd.hang_up()
    lnd.entries.append(entry(4))
    follow(collector(lnd), broker, 4)
    assert lnd.asked == ["", "c2", "c3"]
    assert [event["cursor"] for event in logged(broker)] == ["c1", "c2", "c3", "c4"]


def test_flood_is_limited_and_counted_for_each_unit(broker: Broker, lnd: Instance) -> None:
    source = collector(lnd)
    most = importlib.import_module("collector_journal").MOST
    lnd.write(
        *(entry(number, "again") for number in range(1, most + 51)),
        entry(9000, "another unit", _SYSTEMD_UNIT="tls.service"),
        entry(9001, "again"),
        entry(9002, "the next minute", seconds=60),
    )
    lnd.print(text=b"this is no entry\n[]\n")
    lnd.write(entry(9003, "and on", seconds=61))
    events = follow(source, broker, most + 3)
    assert [(event["message"], event["left_out"]) for event in events[most:]] == [
        ("another unit", 50), ("the next minute", 1), ("and on", 2),
    ]  # fmt: skip
    assert {event["left_out"] for event in events[:most]} == {0}


def test_entries_that_have_waited_are_not_taken_for_a_flood(broker: Broker, lnd: Instance) -> None:
    lnd.entries = [entry(number, seconds=number) for number in range(1, 1201)]
    events = follow(collector(lnd), broker, 1200)
    assert {event["left_out"] for event in events} == {0}


def test_instance_that_is_away_holds_up_no_other_one(broker: Broker, lnd: Instance) -> None:
    away = Instance()
    away.close()
    lnd.entries = [entry(1)]
    source = collector(lnd, electrs=away)
    follow(source, broker, 1)
    pauses = []
    for _time in range(7):
        pauses.append(source._journals[1]._pause)
        source._journals[1].end()
    assert pauses[-1] == 30 and sorted(pauses) == pauses


def test_collector_writes_nothing_of_itself(broker: Broker, lnd: Instance) -> None:
    lnd.entries = [entry(1, _SYSTEMD_UNIT="collector-journal.service"), entry(2)]
    (event,) = follow(collector(lnd), broker, 1)
    assert event["cursor"] == "c2"


def test_entry_without_an_end_ends_the_connection(
    broker: Broker, lnd: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("collector_journal"), "_LONGEST", 100)
    source = collector(lnd)
    lnd.print(text=b"x" * 200)
    until(lambda: source.step() or source._journals[0].connection is None, "the connection is closed")
