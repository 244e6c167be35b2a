# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write what is in the journals of all instances.

Each instance hands out its journal at a port, as journalctl prints it in JSON, from the entry after the one that a line
names. The newest event of the topic of an instance says which one that is.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bcm_guest.secret_masks import mask
from collector_topic import Broker, Source, Topic, run

PRIORITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
#: entries of a unit within a minute that become events; of more, there is the number
MOST = 600
_MINUTE = 60_000_000  # microseconds
#: until systemd has got what a program wrote
_PRECISION = timedelta(seconds=1)
#: seconds until an instance is tried again that did not answer, at first and at last
_AGAIN, _AT_LAST = 1.0, 30.0
_CHUNK = 65536
#: bytes of an entry, of which journalctl prints no field with more than 4096
_LONGEST = 2**20
#: what it says itself would become an event, and that may be what it has to say something about
_OWN = "collector-journal.service"
#: fields that an event has by other names, or that say nothing about what happened
_KNOWN = {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "SYSLOG_FACILITY", "SYSLOG_PID", "SYSLOG_TIMESTAMP", "UNIT"}


class Journal:
    """The connection to one instance, and what becomes of the entries that come."""

    def __init__(self, stack: str, place: Mapping[str, Any]) -> None:
        self.stack = stack
        self._place = (str(place["address"]), int(place["port"]))
        self.cursor = ""
        self.connection: socket.socket | None = None
        self._rest = b""
        self._pause = _AGAIN
        #: when it is tried again, by the clock of ``time.monotonic``
        self.due = 0.0
        self._minute, self._seen = 0, Counter[str]()
        self._left_out = 0

    def connect(self) -> socket.socket:
        """Begin to connect. Raises OSError."""
        self.connection, self._rest = socket.socket(), b""
        self.connection.setblocking(False)
        # or an instance that is gone would never be missed
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Whether it answers is known later: others are not to wait for it.
        with contextlib.suppress(BlockingIOError):
            self.connection.connect(self._place)
        return self.connection

    def ask(self) -> None:
        """Say after which entry it goes on, once it is connected. Raises OSError."""
        assert self.connection is not None
        self.connection.sendall(f"{self.cursor}\n".encode())

    def read(self) -> list[bytes]:
        """The entries that have come. Raises OSError if the connection has ended."""
        assert self.connection is not None
        data = self.connection.recv(_CHUNK)
        if not data:
            raise ConnectionResetError(f"{self.stack} has ended the connection")
        self._pause = _AGAIN
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            raise ConnectionAbortedError(f"{self.stack} sends an entry without an end")
        return lines

    def end(self) -> None:
        """Close the connection, and wait some time before the next one."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None
        self.due, self._pause = time.monotonic() + self._pause, min(2 * self._pause, _AT_LAST)

    def take(self, line: bytes) -> tuple[dict[str, Any], datetime] | None:
        """What an entry becomes, and when it was written; None if it is left out.

        Entries are counted by the time that they have, so those that come at once since they waited are not left out.
        """
        try:
            entry = json.loads(line)
            cursor, when = str(entry["__CURSOR"]), int(entry["__REALTIME_TIMESTAMP"])
        except (ValueError, KeyError, TypeError, RecursionError):
            self._left_out += 1
            return None
        self.cursor = cursor
        unit = _text(entry.get("UNIT")) or _text(entry.get("_SYSTEMD_UNIT"))
        if unit == _OWN:
            return None
        if when // _MINUTE != self._minute:
            self._minute = when // _MINUTE
            self._seen.clear()
        self._seen[unit] += 1
        if self._seen[unit] > MOST:
            self._left_out += 1
            return None
        body = {
            "unit": unit,
            "identifier": _text(entry.get("SYSLOG_IDENTIFIER")),
            "priority": _priority(entry.get("PRIORITY")),
            "message": None if entry.get("MESSAGE") is None else mask(_text(entry["MESSAGE"])),
            "fields": {
                name: mask(_text(value))
                for name, value in sorted(entry.items())
                if not name.startswith("_") and name not in _KNOWN
            },
            "left_out": self._left_out,
            "cursor": cursor,
        }
        self._left_out = 0
        return body, datetime.fromtimestamp(when / 1_000_000, UTC)


def _text(value: Any) -> str:
    """A field as journalctl prints it: a text, the numbers of its bytes, or a list of such fields."""
    if isinstance(value, list):
        if value and all(isinstance(item, int) and 0 <= item < 256 for item in value):
            return bytes(value).decode(errors="replace")
        return " ".join(map(_text, value))
    return value if isinstance(value, str) else ""


def _priority(value: Any) -> str:
    text = _text(value)
    return PRIORITIES[int(text)] if text in set("01234567") else "info"


class Journals(Source):
    """What is written of all journals."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, "collector")
        self._journals = [Journal(stack, place) for stack, place in settings["journals"].items()]
        self._topics = {
            journal.stack: Topic(f"{journal.stack}.log", self.broker, journal.stack) for journal in self._journals
        }
        self._selector = selectors.DefaultSelector()

    def begin(self) -> None:
        for journal in self._journals:
            newest = self._topics[journal.stack].newest()
            journal.cursor = newest["cursor"] if newest else ""

    def step(self) -> None:
        """Wait until something comes, and write it."""
        clock = time.monotonic()
        for journal in self._journals:
            if journal.connection is None and journal.due <= clock:
                self._try(journal, self._connect)
        pauses = [journal.due - clock for journal in self._journals if journal.connection is None]
        for key, _events in self._selector.select(max(0.0, min(pauses, default=_AT_LAST))):
            self._try(key.data, self._ask if key.events == selectors.EVENT_WRITE else self._write)

    def _try(self, journal: Journal, act: Any) -> None:
        """Raises Lost."""
        try:
            act(journal)
        except OSError:
            if journal.connection is not None and journal.connection in self._selector.get_map():
                self._selector.unregister(journal.connection)
            journal.end()

    def _connect(self, journal: Journal) -> None:
        self._selector.register(journal.connect(), selectors.EVENT_WRITE, journal)

    def _ask(self, journal: Journal) -> None:
        journal.ask()
        self._selector.modify(journal.connection, selectors.EVENT_READ, journal)

    def _write(self, journal: Journal) -> None:
        for line in journal.read():
            taken = journal.take(line)
            if taken is not None:
                body, when = taken
                # Which version of the program it is, the journal does not say.
                self._topics[journal.stack].write(body["unit"], body, "", when, _PRECISION)


def show(_settings: Mapping[str, Any], broker: Broker) -> dict[str, Any] | None:
    """The newest event of the instance of the collector itself."""
    return Topic("collector.log", broker, "collector").newest()


if __name__ == "__main__":
    run("journal", Journals)
