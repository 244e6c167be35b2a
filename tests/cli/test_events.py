# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm events` shows of what the broker answers."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from bcm_cli import events
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
