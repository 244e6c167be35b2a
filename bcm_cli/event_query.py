# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm events query`: questions in SQL, of the events that the stack kafka has.

The events of the topics that a question names are read into a database of SQLite in memory, which answers: no server
of streams has to run in the data center for that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError

from . import setup
from .connect import connect
from .datacenter import DataCenter, UsageError
from .events import Schema, ask, fields, schemas
from .output import answer, say

_STEPS = 100_000  # of SQLite, between two looks whether somebody typed Ctrl-C
_LONGEST = 16 * 2**20  # bytes of a value
_AGAIN = 2.0  # seconds until a broker that is away is asked again
_ID = ("event", "id")
_READ = {"events": {str: [dict]}, "positions": {str: int}, "left": int, "unreadable": int}
_COLUMN = {"int": "INTEGER", "long": "INTEGER", "boolean": "INTEGER", "float": "REAL", "double": "REAL"}
_READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
#: functions that reach into the program itself
_INSIDE = ("load_extension", "fts3_tokenizer")

#: What many want to know. ``{logs}`` is the journals of all stacks.
_VIEWS = {
    "fees_by_hour": (
        "what transactions in the mempool of bitcoind paid, in satoshi for each byte of virtual size",
        "SELECT substr(event_time, 1, 13) AS hour, round(avg(1.0 * fees / size), 2) AS average, "
        "max(transactions) AS transactions, max(minimum_fee) / 1000.0 AS minimum "
        "FROM bitcoind_mempool WHERE size > 0 GROUP BY hour ORDER BY hour",
    ),
    "forwarding_income": (
        "what the nodes earned with payments of others, in millisatoshi, each day",
        "SELECT substr(event_time, 1, 10) AS day, event_stack AS node, count(*) AS forwards, sum(amount) AS amount, "
        "sum(fee) AS income FROM (SELECT event_time, event_stack, amount, fee FROM lnd_forward UNION ALL "
        "SELECT event_time, event_stack, amount, fee FROM clightning_forward) GROUP BY day, node ORDER BY day, node",
    ),
    "peers_by_hour": (
        "to how many nodes bitcoind was connected, on average",
        "SELECT substr(event_time, 1, 13) AS hour, round(avg(inbound), 1) AS inbound, "
        "round(avg(outbound), 1) AS outbound, min(inbound + outbound) AS fewest "
        "FROM bitcoind_peers GROUP BY hour ORDER BY hour",
    ),
    "log_errors": (
        "how many entries of the journal were errors, of each unit",
        "SELECT event_stack AS stack, unit, count(*) AS errors, max(event_time) AS newest FROM ({logs}) "
        "WHERE priority IN ('emerg', 'alert', 'crit', 'err') GROUP BY stack, unit ORDER BY errors DESC",
    ),
}


def query(args: argparse.Namespace) -> int:
    """Answer a question in SQL; without one, list the tables and views that there are."""
    known = schemas(args.datacenter)
    database = EventTables(known)
    if args.sql is None:
        if args.follow:
            raise UsageError("--follow prints what comes new in an answer, and there is no question.")
        return answer(list(database.describe()), args.json)
    topics = database.topics_of(args.sql)
    if args.follow and not topics:
        raise UsageError("The question names no table, so nothing new can come: leave --follow out.")
    source = _Source(args.datacenter, database, topics, known)
    with connect(args.datacenter) as client:
        source.load(client)
        if not args.follow:
            return answer(database.answer(args.sql), args.json)
        before: Counter[str] = Counter()
        while True:
            lines = Counter(_line(row, args.json) for row in database.answer(args.sql))
            for line in (lines - before).elements():
                say(line)
            sys.stdout.flush()
            before = lines
            source.follow(client)


def _line(row: Mapping[str, Any], as_json: bool) -> str:
    return json.dumps(row) if as_json else " ".join(f"{key}={value}" for key, value in row.items())


class EventTables:
    """Events in tables of SQLite, one for each topic that has a schema, and each event once."""

    def __init__(self, known: Mapping[str, Sequence[Schema]]) -> None:
        self._known = known
        self._tables: dict[str, str] = {}  # name -> topic
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.row_factory = sqlite3.Row
        self._database.set_progress_handler(lambda: 0, _STEPS)  # Python looks for signals only between its own steps
        self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        # What these are made of is not refused later.
        self._execute("SELECT 1 FROM json_each('[]'), json_tree('[]')")
        logs = []
        for topic in known:
            table = topic.replace(".", "_").replace("-", "_")
            if table in (*self._tables, *_VIEWS) or table.startswith("sqlite_"):
                table = topic
            try:
                self._execute(f"CREATE TABLE {_quoted(table)} ({', '.join(_columns(known[topic][-1]))})")
            except sqlite3.Error as fault:
                setup.step(f"warning: the events of {topic} do not become a table: {fault}")
                continue
            self._tables[table] = topic
            if topic.endswith(".log"):
                logs.append(f"SELECT event_stack, event_time, unit, priority FROM {_quoted(table)}")
        for view, (_text, sql) in _VIEWS.items():
            self._execute(f"CREATE VIEW {view} AS {sql.format(logs=' UNION ALL '.join(logs))}")

    def describe(self) -> Iterator[dict[str, Any]]:
        """The tables and views, and their columns."""
        texts = {table: self._known[topic][-1].get("doc") for table, topic in self._tables.items()}
        texts |= {view: text for view, (text, _sql) in _VIEWS.items()}
        for table, text in sorted(texts.items()):
            found = self._database.execute("SELECT name FROM pragma_table_info(?)", (table,))
            columns = [row["name"] for row in found if not row["name"].startswith("event_")]
            yield {"table": table, "columns": ", ".join(columns), "what it is": text}

    def topics_of(self, sql: str) -> dict[str, bool]:
        """The topics of the tables that a question reads, and whether it names them itself. Raises UsageError."""
        read: dict[str, bool] = {}

        def authorize(action: int, table: str | None, name: str | None, _base: Any, view: str | None) -> int:
            if action == sqlite3.SQLITE_READ and table:
                # as it is typed, where no column is read
                read[table.lower()] = read.get(table.lower(), False) or view is None
            refused = action not in _READING or (action == sqlite3.SQLITE_FUNCTION and name in _INSIDE)
            return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK

        self._database.set_authorizer(authorize)
        try:
            self._ask(f"EXPLAIN {sql}")
        finally:
            self._database.set_authorizer(None)
        return {topic: read[table.lower()] for table, topic in self._tables.items() if table.lower() in read}

    def add(self, topic: str, events: Sequence[Mapping[str, Any]]) -> None:
        """Take events into the table of a topic; those that are there already are left out."""
        paths = [path for path, _field in fields(self._known[topic][-1])]
        table = next(table for table, of in self._tables.items() if of == topic)
        sql = f"INSERT OR IGNORE INTO {_quoted(table)} VALUES ({', '.join('?' * len(paths))})"
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany(sql, ([_value(event, path) for path in paths] for event in events))

    def answer(self, sql: str) -> list[dict[str, Any]]:
        """The rows of an answer. Raises UsageError."""
        rows = self._ask(sql)
        return [dict(zip(_distinct(rows[0].keys()), map(_shown, row), strict=True)) for row in rows]

    def _ask(self, sql: str) -> list[sqlite3.Row]:
        try:
            return self._execute(sql)
        except (sqlite3.Error, sqlite3.Warning, UnicodeError) as fault:
            text = str(fault)
            if text == "interrupted":  # by Ctrl-C
                raise KeyboardInterrupt from fault
            if text.startswith("no such table: "):
                known = sorted([*self._tables, *_VIEWS])
                raise UsageError.of(names.unknown("table", text.partition(": ")[2], known)) from fault
            if text in ("not authorized", 'near "EXPLAIN": syntax error'):
                text = "it does something else than reading"
            remedy = "type one SELECT of SQLite; `bcm events query` lists the tables and their columns"
            raise UsageError("The question", f"cannot be answered: {text};", remedy) from fault

    def _execute(self, sql: str) -> list[sqlite3.Row]:
        return self._database.execute(sql).fetchall()


class _Source:
    """The broker, of which topics are read from where the last reading ended."""

    def __init__(
        self,
        datacenter: DataCenter,
        database: EventTables,
        topics: Mapping[str, bool],
        known: Mapping[str, Sequence[Schema]],
    ) -> None:
        self._datacenter, self._database, self._topics = datacenter, database, topics
        self._schemas = {topic: known[topic] for topic in topics}
        self._positions: dict[str, int | None] = dict.fromkeys(topics)
        self._is_away = False

    def load(self, client: Client) -> None:
        """Read all events; warn of tables that have none since nobody writes them. Raises LxdError."""
        while self._read(client, waits=False):
            pass
        if missing := [topic for topic, named in self._topics.items() if named and self._positions[topic] is None]:
            setup.step(f"warning: no stack of the data center {self._datacenter.name} has written {', '.join(missing)}")

    def follow(self, client: Client) -> None:
        """Read what comes within some seconds, and all of it; warn while the broker is away."""
        try:
            self._read(client, waits=True)
            self._is_away = False
        except LxdError as fault:
            if not self._is_away:
                setup.step(f"warning: {fault}; it is asked again until it answers")
            self._is_away = True
            time.sleep(_AGAIN)

    def _read(self, client: Client, *, waits: bool) -> int:
        """Read some events; the number of those that are left. Raises LxdError."""
        request = {"verb": "read_all", "positions": self._positions, "waits": waits, "schemas": self._schemas}
        found = ask(self._datacenter, client, request, _READ)
        if found["unreadable"]:
            setup.step(f"warning: {found['unreadable']} events fit no schema of this version of bcm, and are left out")
        for topic, events in found["events"].items():
            self._database.add(topic, events)
        self._positions |= found["positions"]
        return int(found["left"])


def _columns(schema: Schema) -> list[str]:
    """The columns of a table, each of the type of SQLite that is nearest; each event is there once."""
    every = [(path, field["type"]) for path, field in fields(schema)]
    names = _distinct(["_".join(path) for path, _kind in every])
    return [
        f"{_quoted(name)} {_affinity(kind)}{' UNIQUE' if path == _ID else ''}"
        for name, (path, kind) in zip(names, every, strict=True)
    ]


def _affinity(kind: Any) -> str:
    """The type of a column; none if values are of several types. A time is text, which functions of SQLite read."""
    if isinstance(kind, list):
        found = {_affinity(one) for one in kind if one != "null"}
        return found.pop() if len(found) == 1 else ""
    if isinstance(kind, dict):
        return "TEXT" if str(kind.get("logicalType")).startswith("timestamp") else _affinity(kind["type"])
    return _COLUMN.get(kind, "TEXT")


def _value(event: Mapping[str, Any], path: Sequence[str]) -> Any:
    """A value of an event as SQLite keeps it; what has parts is JSON, which functions of SQLite read."""
    value: Any = event
    for name in path:
        value = value[name] if isinstance(value, Mapping) and name in value else None
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return json.dumps(value) if isinstance(value, list | dict) else value


def _distinct(columns: Sequence[str]) -> list[str]:
    """Names of columns, with a number after those that are there already, whatever their case."""
    found: list[str] = []
    taken: set[str] = set()
    for column in columns:
        tries = itertools.chain([column], (f"{column}_{number}" for number in itertools.count(2)))
        name = next(name for name in tries if name.lower() not in taken)
        taken.add(name.lower())
        found.append(name)
    return found


def _shown(value: Any) -> Any:
    """A value of an answer, as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'
