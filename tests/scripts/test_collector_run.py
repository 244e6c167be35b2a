# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role collector writes of runs, with a broker of the tests. tests/e2e has the real one."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from tests.scripts.test_collector import KNOWN, Broker, broker

__all__ = ["broker"]

BODIES: dict[str, dict[str, Any]] = {
    "started": {"state": "present", "stacks": ["lnd"]},
    "change": {"number": 1, "instance": "lnd", "step": "Write the files", "what": ""},
    "certificate": {"name": "lnd", "serial": "b2", "not_after": "2027-02-01T00:00:00+00:00"},
    "revocation": {"name": "lnd", "serial": "b2", "reason": "superseded"},
    "access": {"change": "granted", "client": "alice", "by": "onion", "to": "lnd-rest", "topics": []},
    "failed": {"state": "present", "stacks": ["lnd"], "interrupted": False, "errors": ["lnd: Write: io_error"]},
    "run": {
        "state": "present",
        "stacks": ["tor", "lnd"],
        "exceptions": ["lnd 192.0.2.0/24:443 tcp"],
        "warnings": ["lnd: it waits"],
        "versions": {"lnd": "0.21.3"},
    },
}
SETTINGS = {
    "client": {"sasl.username": "collector"}, "schemas": KNOWN, "datacenter": "a", "chain": "regtest",
    "hosts": {"collector": "box"},
}  # fmt: skip
#: by the clock of the sender, which is a day behind
SENT = datetime.now(UTC) - timedelta(days=1)


def events_of(run: str) -> list[dict[str, Any]]:
    time = (SENT - timedelta(hours=1)).isoformat()
    return [
        {"topic": f"collector.{name}", "key": name, "time": time, "body": {"run": run, **body}}
        for name, body in BODIES.items()
    ]


def write(*events: dict[str, Any]) -> int:
    sent = {"version": "0.1.0", "now": SENT.isoformat(), "events": events}
    program = importlib.import_module("collector_run")
    return int(program.write_events(program.Broker(SETTINGS), sent))


def test_events_of_runs_are_written_to_their_topics(broker: Broker) -> None:
    assert write(*events_of("a"), *events_of("b")) == 2 * len(BODIES)
    for name, body in BODIES.items():
        events = broker.events(f"collector.{name}")
        end = {"not_after": datetime(2027, 2, 1, tzinfo=UTC)} if "not_after" in body else {}
        assert [{key: value for key, value in event.items() if key != "event"} for event in events] == [
            {**body, **end, "run": run} for run in ("a", "b")
        ]
        assert [event["event"]["sequence"] for event in events] == [1, 2]
    assert broker.readers == 1, "one connection reads all topics"
    envelope = broker.events("collector.run")[0]["event"]
    assert (envelope["version"], envelope["host"]) == ("0.1.0", "box")
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert abs(envelope["time"] - an_hour_ago) < timedelta(minutes=10)


def test_events_that_are_sent_again_are_written_once(broker: Broker) -> None:
    write(*events_of("a")[:3])
    assert write(*events_of("a"), *events_of("b")) == 2 * len(BODIES) - 3
    assert [event["run"] for event in broker.events("collector.started")] == ["a", "b"]
    assert write(*events_of("a")) == 0


def test_backup_that_several_runs_find_is_one_event(broker: Broker) -> None:
    def find(made: str) -> int:
        body = {"of": "Channels of lnd", "at": "at attic", "made": made}
        return write({"topic": "collector.backup", "key": "backup", "time": SENT.isoformat(), "body": body})

    first, second = (f"2026-11-{day}T16:00:00+00:00" for day in (28, 29))
    assert [find(first), find(first), find(second), find(second)] == [1, 0, 1, 0]
    assert [event["made"].day for event in broker.events("collector.backup")] == [28, 29]


def test_run_of_an_earlier_version_is_read(broker: Broker) -> None:
    older = [schema for schema in KNOWN["collector.run"] if len(schema["fields"]) == 5]
    assert older
    codec = importlib.import_module("collector_topic").Codec
    write(*events_of("a"))
    (event,) = broker.events("collector.run")
    del event["run"], event["versions"]
    broker.topics["collector.run"][0] = ("run", codec(older).encode(event))
    (read,) = broker.events("collector.run")
    assert (read["run"], read["versions"], read["stacks"]) == ("", {}, ["tor", "lnd"])


def test_event_that_is_not_acknowledged_is_a_fault(broker: Broker) -> None:
    broker.waiting = 1
    with pytest.raises(Fault, match="has not acknowledged 1 events"):
        write(*events_of("a"))


@pytest.mark.parametrize("status", [0, 1])
def test_program_that_is_sent_them_says_whether_they_are_written(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broker: Broker
) -> None:
    def run(_command: list[str], input: str, **_more: Any) -> Any:
        assert input == "events"
        return SimpleNamespace(returncode=status, stdout="3\n", stderr="the broker is away\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "stdin", io.StringIO("events"))
    program = importlib.import_module("tell")
    sys.modules.pop("tell")
    if status:
        with pytest.raises(SystemExit, match="the broker is away"):
            program.main()
    else:
        program.main()
        assert capsys.readouterr().out == '{"written": 3}\n'
