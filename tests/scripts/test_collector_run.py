# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role collector writes of runs, with a broker of the tests. tests/e2e has the real one."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from tests.scripts.test_collector import KNOWN, Broker, broker

__all__ = ["broker"]

REPORT = {
    "state": "present",
    "stacks": [{"stack": "tor", "facts": {"secret": "not written"}}, {"stack": "lnd"}],
    "exceptions": [
        {"stack": "lnd", "to": "192.0.2.0/24", "protocol": "tcp", "port": 443, "why": "a test"},
        {"stack": "lnd", "to": "192.0.2.1/32", "protocol": "udp", "port": None, "why": "a test"},
    ],
    "warnings": ["lnd: it waits"],
}
BODY = {
    "state": "present",
    "stacks": ["tor", "lnd"],
    "exceptions": ["lnd 192.0.2.0/24:443 tcp", "lnd 192.0.2.1/32:* udp"],
    "warnings": ["lnd: it waits"],
}
SETTINGS = {
    "client": {"sasl.username": "collector"}, "schemas": KNOWN, "datacenter": "a", "chain": "regtest",
    "hosts": {"collector": "box"},
}  # fmt: skip


def write() -> None:
    importlib.import_module("collector_run").write_run(SETTINGS, BODY)


def test_each_run_is_an_event(broker: Broker) -> None:
    write()
    write()
    events = broker.events("collector.run")
    assert [{key: value for key, value in event.items() if key != "event"} for event in events] == [BODY] * 2
    assert [event["event"]["sequence"] for event in events] == [1, 2]


def test_event_that_is_not_acknowledged_is_a_fault(broker: Broker) -> None:
    broker.waiting = 1
    with pytest.raises(Fault, match="has not acknowledged 1 events"):
        write()


@pytest.mark.parametrize(("status", "fault"), [(0, None), (1, "the broker is away")])
def test_run_does_not_fail_with_the_broker(
    status: int,
    fault: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broker: Broker,
) -> None:
    sent: list[Any] = []

    def run(_command: list[str], input: str, **_more: Any) -> Any:
        sent.append(json.loads(input))
        return SimpleNamespace(returncode=status, stderr="the broker is away\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({"report": REPORT})))
    importlib.import_module("report").main()
    sys.modules.pop("report")
    assert sent == [BODY]
    assert json.loads(capsys.readouterr().out) == {"fault": fault}
