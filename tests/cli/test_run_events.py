# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs tell the stack collector, and what is kept while it cannot write. tests/e2e has the real one."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from bcm_cli import run_events
from bcm_cli.datacenter import DataCenter

DATACENTER = DataCenter("local")
COPY = {"of": "Channels of lnd", "at": "at attic", "made": "2026-11-29T16:00:00+00:00"}
REPORT = {
    "stacks": [
        {"stack": "tor", "version": None, "facts": {"secret": "not written"}},
        {"stack": "lnd", "version": "0.21.3"},
        {"stack": "backups", "version": None, "facts": {"backups": [COPY, {**COPY, "made": "never"}, {"of": 1}, None]}},
    ],
    "exceptions": [
        {"stack": "lnd", "to": "192.0.2.0/24", "protocol": "tcp", "port": 443, "why": "a test"},
        {"stack": "lnd", "to": "192.0.2.1/32", "protocol": "udp", "port": None, "why": "a test"},
    ],
    "warnings": ["lnd: it waits"],
}
CHANGE = {"instance": "lnd", "step": "Write the files", "what": ""}


class Collector:
    """The stack in its instance; it is not there, or does not write, if a test says so."""

    def __init__(self) -> None:
        self.is_there = True
        self.fault = ""
        self.events: list[dict[str, Any]] = []

    def ask(self, _client: Any, instance: str, program: Path, request: dict[str, Any], **_more: Any) -> Any:
        assert (instance, program.name, request["version"]) == ("collector", "tell.py", "0.1.0")
        assert program.is_file()
        if self.fault:
            raise LxdError("The broker", self.fault)
        self.events += request["events"]
        return {"written": len(request["events"])}

    def find(self, url: str) -> dict[str, Any] | None:
        return {"name": "collector"} if self.is_there and url == "/1.0/instances/collector" else None

    def bodies(self) -> list[tuple[str, dict[str, Any]]]:
        return [(event["topic"].removeprefix("collector."), event["body"]) for event in self.events]


@pytest.fixture
def certificates() -> dict[str, tuple[str, str]]:
    return {"a1": ("tor", "2027-01-01T00:00:00+00:00")}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    (tmp_path / "secrets").mkdir()
    return tmp_path / "secrets" / "regtest.events.jsonl"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch, kept: Path, certificates: dict[str, tuple[str, str]]) -> Collector:
    collector = Collector()
    monkeypatch.setattr(run_events, "_path", lambda _datacenter: kept)
    monkeypatch.setattr(run_events, "_certificates", lambda _datacenter: dict(certificates))
    monkeypatch.setattr(run_events, "connect", lambda _datacenter: nullcontext(collector))
    monkeypatch.setattr(run_events, "ask_program", collector.ask)
    return collector


def kinds(collector: Collector) -> list[str]:
    return [topic for topic, _body in collector.bodies() if topic != "backup"]


def run(status: int = 0, **outcome: Any) -> None:
    """A run of a playbook that ends with a status."""
    with run_events.run_of(DATACENTER, "present", ["lnd"]) as begun:
        if outcome:
            begun.outcome.write_text(json.dumps({"changes": [], "errors": [], "report": {}, **outcome}))
        begun.end(status)


def test_run_tells_that_it_began_what_it_changed_and_how_it_ended(
    collector: Collector, kept: Path, certificates: dict[str, tuple[str, str]]
) -> None:
    with run_events.run_of(DATACENTER, "present", ["lnd"]) as begun:
        certificates["b2"] = ("lnd", "2027-02-01T00:00:00+00:00")
        begun.outcome.write_text(json.dumps({"changes": [CHANGE], "errors": [], "report": REPORT}))
        begun.end(0)
    numbers = [body.pop("run") for topic, body in collector.bodies() if topic != "backup"]
    assert len(numbers) == 4 and len(set(numbers)) == 1
    assert collector.bodies() == [
        ("started", {"state": "present", "stacks": ["lnd"]}),
        ("change", {"number": 1, **CHANGE}),
        ("certificate", {"name": "lnd", "serial": "b2", "not_after": "2027-02-01T00:00:00+00:00"}),
        ("backup", COPY),
        (
            "run",
            {
                "state": "present",
                "stacks": ["tor", "lnd", "backups"],
                "exceptions": ["lnd 192.0.2.0/24:443 tcp", "lnd 192.0.2.1/32:* udp"],
                "warnings": ["lnd: it waits"],
                "versions": {"lnd": "0.21.3"},
            },
        ),
    ]
    assert not kept.exists()


def test_failed_run_tells_so(collector: Collector) -> None:
    run(2, changes=[CHANGE], errors=["lnd: Write the files: io_error"])
    assert kinds(collector) == ["started", "change", "failed"]
    _topic, body = collector.bodies()[-1]
    assert (body["interrupted"], body["errors"]) == (False, ["lnd: Write the files: io_error"])


def test_what_is_not_written_is_kept_for_the_next_run(
    collector: Collector, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.fault = "is away"
    run(report=REPORT)
    assert "The events of this run are kept for the next one: The broker is away" in capsys.readouterr().err
    assert kept.stat().st_mode & 0o777 == 0o600
    # Another one is interrupted, so nobody waits for the broker; and a third one is killed before it ends.
    run(130)
    with run_events.run_of(DATACENTER, "present", ["lnd"]):
        pass
    assert collector.events == []
    collector.fault = ""
    run(report=REPORT)
    told = ["started", "run", "started", "failed", "started", "started", "run"]
    assert kinds(collector) == told
    assert next(body for topic, body in collector.bodies() if topic == "failed")["interrupted"]
    assert not kept.exists()


def test_data_center_without_collector_keeps_nothing(
    collector: Collector, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.is_there = False
    run(report=REPORT)
    run(2)
    assert not kept.exists()
    assert (collector.events, capsys.readouterr().err) == ([], "")


def test_no_more_is_kept_than_the_newest(collector: Collector, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_events, "_MOST", 3)
    collector.fault = "is away"
    for _run in range(3):
        run(report=REPORT)
    names = [json.loads(line)["topic"] for line in kept.read_text().splitlines()]
    assert names == ["collector.started", "collector.backup", "collector.run"]


def test_file_that_was_damaged_does_not_end_a_run(collector: Collector, kept: Path) -> None:
    kept.write_text("{\n")
    run(report=REPORT)
    assert kinds(collector) == ["started", "run"]


def test_run_that_is_refused_makes_nothing_where_there_is_nothing(collector: Collector, kept: Path) -> None:
    kept.parent.rmdir()
    with run_events.run_of(DATACENTER, "present", ["tor"]) as run:
        run.end(2)
    assert (kept.parent.exists(), collector.events) == (False, [])


def test_first_run_of_all_tells_what_it_began_with(collector: Collector, kept: Path) -> None:
    kept.parent.rmdir()
    with run_events.run_of(DATACENTER, "present", ["tor"]) as run:
        kept.parent.mkdir()
        run.outcome.write_text(json.dumps({"changes": [], "errors": [], "report": {}}))
        run.end(0)
    assert (kinds(collector), kept.exists()) == (["started", "run"], False)


def test_what_is_issued_revoked_and_granted_is_written_by_the_next_run(
    collector: Collector, kept: Path, certificates: dict[str, tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked: dict[str, tuple[str, str]] = {"a0": ("old", "superseded")}
    monkeypatch.setattr(run_events, "_revoked", lambda _datacenter: dict(revoked))
    with pytest.raises(OSError), run_events.tell_certificates(DATACENTER):
        certificates["b2"] = ("alice@portal", "2027-02-01T00:00:00+00:00")
        revoked["a1"] = ("tor", "key_compromise")
        raise OSError("its files cannot be written")
    with run_events.tell_certificates(DATACENTER):
        pass
    run_events.tell_access(DATACENTER, "granted", "alice", "lan", "kafka", ["bitcoind.*"])
    assert (collector.events, kept.stat().st_mode & 0o777) == ([], 0o600)
    run()
    told = collector.bodies()[:3]
    assert all(len(body.pop("run")) == 32 for _topic, body in told)
    assert told == [
        ("certificate", {"name": "alice@portal", "serial": "b2", "not_after": "2027-02-01T00:00:00+00:00"}),
        ("revocation", {"name": "tor", "serial": "a1", "reason": "key_compromise"}),
        ("access", {"change": "granted", "client": "alice", "by": "lan", "to": "kafka", "topics": ["bitcoind.*"]}),
    ]
