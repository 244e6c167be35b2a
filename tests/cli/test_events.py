# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm events` shows of what the broker answers."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from contextlib import nullcontext
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from bcm_cli import event_query, events
from bcm_cli.datacenter import DataCenter, UsageError

ENVELOPE = {"id": "0", "sequence": 1, "time": "2026-11-30T03:00:00+00:00"}
BLOCKS = [{"event": ENVELOPE, "change": "connected", "height": height} for height in range(7)]
TOPICS = {"bitcoind.block": {"events": 5, "last_hour": 2, "newest": "2026-11-30T03:00:00+00:00"}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the broker is asked; it answers with two events at a time, until somebody types Ctrl-C."""
    requests: list[dict[str, Any]] = []

    def ask(_client: Any, _instance: str, _program: Any, request: dict[str, Any], **_more: Any) -> dict[str, Any]:
        requests.append(request)
        if request["verb"] == "list":
            return {"topics": TOPICS}
        start = max(0, 5 - request["newest"]) if request["position"] is None else request["position"]
        if start >= len(BLOCKS) and request["waits"]:
            raise KeyboardInterrupt
        found = BLOCKS[start : start + 2] if start < 5 or request["waits"] else []
        return {"topics": sorted(TOPICS), "kept": 5, "events": found, "position": start + len(found)}

    monkeypatch.setattr(events, "connect", lambda _datacenter: nullcontext(None))
    monkeypatch.setattr(events, "deployed", lambda _client: {"kafka": {}})
    monkeypatch.setattr(events, "ask_program", ask)
    return requests


def arguments(**more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"datacenter": DataCenter("local"), "json": False, "topic": "bitcoind.block", **more})


def test_events_that_are_there_are_printed_once(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert events.tail(arguments(newest=3, stop=True, json=True)) == 0
    assert [json.loads(line)["height"] for line in capsys.readouterr().out.splitlines()] == [2, 3, 4]
    assert [request["position"] for request in asked] == [None, 4]
    assert asked[0]["schemas"][-1]["name"] == "block"
    assert events.tail(arguments(newest=0, stop=True)) == 0
    assert events.tail(arguments(newest=99, stop=True)) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_events_that_come_are_followed(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        events.tail(arguments(newest=1, stop=False))
    assert capsys.readouterr().out.splitlines() == [
        f"2026-11-30T03:00:00+00:00 change=connected height={height}" for height in (4, 5, 6)
    ]


def test_event_that_cannot_be_read_is_shown_on_its_line() -> None:
    assert events.describe({"fault": "an event does not fit"}) == "fault=an event does not fit"
    assert events.describe({"value": "12"}) == "value=12"


def test_topics_are_listed_with_what_they_are(asked: Any, capsys: pytest.CaptureFixture[str]) -> None:
    events.list_topics(arguments(json=True))
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["topic"], row["events"], row["last hour"]) == ("bitcoind.block", 5, 2)
    assert row["schema"].startswith("A block was connected")


def test_fields_of_an_event_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    events.show(arguments())
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["event.id", "string"] for line in lines)
    assert any(line.startswith("change") and "connected or disconnected" in line for line in lines)
    assert any(line.split()[:2] == ["block", "hash"] for line in lines)
    events.show(arguments(json=True))
    assert json.loads(capsys.readouterr().out)["namespace"] == "bcm.bitcoind"


def test_unknown_topic_is_refused_with_the_nearest_one(asked: Any) -> None:
    with pytest.raises(UsageError, match='did you mean "bitcoind.block"'):
        events.show(arguments(topic="bitcoind.blocks"))
    with pytest.raises(UsageError, match='did you mean "bitcoind.block"'):
        events.tail(arguments(topic="bitcoind.blocks", newest=1, stop=True))
    with pytest.raises(UsageError, match="--newest is -1"):
        events.tail(arguments(newest=-1, stop=True))


def test_data_center_without_broker_is_told_how_to_have_one(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "deployed", lambda _client: {})
    with pytest.raises(BcmError, match="`bcm stack start kafka`"):
        events.list_topics(arguments())


HOUR = {**ENVELOPE, "stack": "lnd", "time": "2026-11-30T03:59:00+00:00"}
FORWARDS = [
    {"event": {**HOUR, "id": str(number)}, "incoming": "1", "outgoing": "2", "amount": 1000 * number, "fee": number}
    for number in (1, 2, 3, 3)
]
#: what the broker has, in the order in which it answers
HELD = {"bitcoind.block": [{**one, "event": {**HOUR, "id": f"b{index}"}} for index, one in enumerate(BLOCKS)]}


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """What the broker has, of which it answers with two events at a time; until Ctrl-C if nothing comes any more."""
    topics = {**HELD, "lnd.forward": list(FORWARDS)}

    def ask(_client: Any, _instance: str, _program: Any, request: dict[str, Any], **_more: Any) -> dict[str, Any]:
        assert request["verb"] == "read_all" and set(request["schemas"]) == set(request["positions"])
        positions = {name: start or 0 for name, start in request["positions"].items() if name in topics}
        if request["waits"] and all(start >= len(topics[name]) for name, start in positions.items()):
            raise KeyboardInterrupt
        found = {name: topics[name][start : start + 2] for name, start in positions.items()}
        after = {name: start + len(found[name]) for name, start in positions.items()}
        left = sum(len(topics[name]) - position for name, position in after.items())
        return {"events": found, "positions": after, "left": left, "unreadable": 0}

    monkeypatch.setattr(event_query, "connect", lambda _datacenter: nullcontext(None))
    monkeypatch.setattr(events, "deployed", lambda _client: {"kafka": {}})
    monkeypatch.setattr(events, "ask_program", ask)
    return topics


def question(sql: str | None, **more: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"datacenter": DataCenter("local"), "json": True, "sql": sql, "follow": False, **more})


def asks(capsys: pytest.CaptureFixture[str], sql: str | None) -> Any:
    assert event_query.query(question(sql)) == 0
    return json.loads(capsys.readouterr().out)


def test_questions_are_answered_of_each_event_once(broker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT count(*) AS blocks, max(height) AS highest, typeof(height) AS kind FROM bitcoind_block"
    assert asks(capsys, sql) == [{"blocks": 7, "highest": 6, "kind": "integer"}]
    income = {"day": "2026-11-30", "node": "lnd", "forwards": 3, "amount": 6000, "income": 6}
    assert asks(capsys, "SELECT * FROM forwarding_income") == [income]
    joined = (
        "SELECT a.height, b.height, x'00ff' AS raw FROM bitcoind_block a JOIN bitcoind_block b USING (event_id) LIMIT 1"
    )
    assert asks(capsys, joined) == [{"height": 0, "height_2": 0, "raw": "00ff"}]
    assert asks(capsys, "SELECT 1 AS one") == [{"one": 1}]
    # Where no column is read, SQLite gives the name of a table as it is typed.
    assert asks(capsys, "SELECT count(*) AS blocks FROM BITCOIND_Block") == [{"blocks": 7}]
    assert asks(capsys, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 9e999 AS b") == [{"a": 1, "a_2": 2, "a_2_2": 3, "b": "inf"}]


def test_topic_that_nobody_writes_is_warned_of(broker: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert event_query.query(question("SELECT * FROM lnd_invoice")) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == []
    assert "no stack of the data center local has written lnd.invoice" in said.err
    del broker["bitcoind.block"]
    asks(capsys, "SELECT * FROM forwarding_income")  # whose other table nobody has to know
    assert event_query.query(question("SELECT * FROM bitcoind_block JOIN forwarding_income")) == 0
    assert capsys.readouterr().err.count("bitcoind.block") == 1


def test_new_rows_of_an_answer_are_followed_although_the_broker_was_away(
    broker: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers, turns = events.ask_program, iter(["away", "away", "comes", "ends"])

    def ask(*words: Any, **more: Any) -> Any:
        turn = next(turns) if words[3]["waits"] else ""
        if turn == "away":
            raise LxdError("kafka", "is away")
        if turn == "comes":
            broker["bitcoind.block"] = [*HELD["bitcoind.block"], {**BLOCKS[0], "event": {**HOUR, "id": "new"}}]
        return answers(*words, **more)

    monkeypatch.setattr(events, "ask_program", ask)
    monkeypatch.setattr(event_query, "_AGAIN", 0.0)
    with pytest.raises(KeyboardInterrupt):
        event_query.query(
            question("SELECT change, count(*) AS blocks FROM bitcoind_block GROUP BY change", follow=True)
        )
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert lines == [{"change": "connected", "blocks": 7}, {"change": "connected", "blocks": 8}]
    assert said.err.count("kafka is away; it is asked again until it answers") == 1


@pytest.mark.parametrize(
    ("sql", "fault"),
    [
        ("SELECT * FROM bitcoind_blocks", 'did you mean "bitcoind_block"'),
        ("SELECT heigth FROM bitcoind_block", "no such column: heigth; type one SELECT"),
        ("SELEC 1", "syntax error; type one SELECT"),
        ("", "type one SELECT"),
        ("SELECT 1; SELECT 2", "one statement at a time.*type one SELECT"),
        ("DELETE FROM bitcoind_block", "something else than reading"),
        ("ATTACH '/etc/passwd' AS other", "something else than reading"),
        ("EXPLAIN SELECT 1", "something else than reading"),
        ("PRAGMA database_list", "something else than reading"),
        ("SELECT 1 \0", "cannot be answered"),
        ("SELECT '\udcff'", "cannot be answered"),
        ("SELECT load_extension('x')", "cannot be answered"),
    ],
)
def test_question_that_cannot_be_answered_is_refused_before_the_broker_is_asked(
    sql: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_query, "connect", lambda _datacenter: pytest.fail("the broker was asked"))
    with pytest.raises(UsageError, match=fault):
        event_query.query(question(sql))


def test_following_needs_a_question_of_a_table(broker: Any) -> None:
    for sql in (None, "SELECT 1"):
        with pytest.raises(UsageError, match="follow"):
            event_query.query(question(sql, follow=True))


def test_question_that_takes_long_ends_with_ctrl_c() -> None:
    database = event_query.EventTables(events.schemas(DataCenter("local")))
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    threading.Timer(0.5, signal.raise_signal, (signal.SIGINT,)).start()
    with pytest.raises(KeyboardInterrupt):
        database.answer(endless)


def test_tables_and_their_columns_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    tables = {row["table"]: row for row in asks(capsys, None)}
    assert tables["electrs_index"]["columns"] == "block, height"
    assert tables["forwarding_income"]["columns"] == "day, node, forwards, amount, income"
    assert {"fees_by_hour", "peers_by_hour", "log_errors"} <= set(tables)


def record(*columns: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "r", "fields": [{"name": name, "type": kind} for name, kind in columns]}


def tables(**topics: dict[str, Any]) -> event_query.EventTables:
    known = {name.replace("__", "."): [schema] for name, schema in topics.items()}
    return event_query.EventTables({**events.schemas(DataCenter("local")), **known})


def test_topics_whose_tables_would_have_one_name_are_kept_apart() -> None:
    schema = record(("height", ["null", "long"]))
    database = tables(log__errors=schema, sqlite__x=schema, a__b_c=schema, **{"a__b-c": schema})
    asked = database.topics_of('SELECT * FROM "log.errors" JOIN "sqlite.x" JOIN a_b_c')
    assert asked == {"log.errors": True, "sqlite.x": True, "a.b_c": True}
    assert database.topics_of('SELECT * FROM "a.b-c"') == {"a.b-c": True}


def test_odd_schema_of_one_topic_does_not_hinder_questions(capsys: pytest.CaptureFixture[str]) -> None:
    inner = record(("b", "bytes"))
    odd = record(("Height", "long"), ("height", "long"), ("a_b", "string"), ("a", inner), ("any", ["long", "string"]))
    database = tables(own__odd=odd, own__wide=record(*((f"f{number}", "long") for number in range(2500))))
    assert "the events of own.wide do not become a table: too many columns" in capsys.readouterr().err
    event = {"Height": 1, "height": 2, "a_b": "x", "a": {"b": "00ff"}, "any": "007"}
    database.add("own.odd", [event, {**event, "height": 2**70}])
    first, second = database.answer("SELECT * FROM own_odd")
    assert first == {"Height": 1, "height_2": 2, "a_b": "x", "a_b_2": "00ff", "any": "007"}
    assert second["height_2"] == float(2**70)


def test_lists_are_read_with_functions_of_json() -> None:
    database = tables()
    channel = {"event": {**HOUR, "id": "c"}, "channel": "1:0", "open": ["1:0", "2:0"]}
    asked = "SELECT open.value FROM lnd_channel, json_each(lnd_channel.open) AS open"
    assert database.topics_of(asked) == {"lnd.channel": True}
    database.add("lnd.channel", [channel])
    assert [row["value"] for row in database.answer(asked)] == ["1:0", "2:0"]
