# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role collector writes of Core Lightning, with a node of the tests that answers as the real one does."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from tests import clightning
from tests.scripts.test_collector import KNOWN, Broker, broker, topics

__all__ = ["broker"]

BEGAN = 1_700_000_000
SECRET = "what nobody is told"
RECORDED = json.loads(clightning.RECORDINGS.read_text())["rest_with_rune"]
NEEDS = {stack: need for _path, stack, need in Catalogue.read()["collector"].declared_needs()}


class Clightning:
    """A Core Lightning: what it answers to each call. It refuses what the rune of the collector does not allow."""

    def __init__(self) -> None:
        self.lists: dict[str, list[dict[str, Any]]] = {"invoices": [], "sendpays": [], "forwards": []}
        self.channels: list[dict[str, Any]] = []
        self.closed: list[dict[str, Any]] = []

    def change(self, subsystem: str, item: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Change an item of a list, or add one, which then has the next number."""
        if item not in self.lists[subsystem]:
            self.lists[subsystem].append(item)
        item.update(more, updated_index=self.wait(subsystem, "updated", 0)["updated"] + 1)
        return item

    def pay(self, number: int) -> dict[str, Any]:
        """An invoice that is paid as the one with that number."""
        paid = {"payment_hash": f"{number:064x}", "pay_index": number, "amount_received_msat": 5000, "label": SECRET}
        more = {"paid_at": BEGAN + number, "description": SECRET, "payment_preimage": SECRET, "bolt11": SECRET}
        return self.change("invoices", {**paid, **more})

    def send(self, payment: int, group: int = 1) -> dict[str, Any]:
        """A part of a payment, which has no outcome yet."""
        part = {
            "payment_hash": f"{payment:064x}", "groupid": group, "partid": len(self.lists["sendpays"]) + 1,
            "status": "pending", "amount_msat": 4000, "amount_sent_msat": 4003, "created_at": BEGAN + payment,
            "destination": SECRET, "bolt11": SECRET,
        }  # fmt: skip
        self.lists["sendpays"].append(part)
        return part

    def end(self, part: dict[str, Any], status: str) -> None:
        self.change("sendpays", part, status=status, completed_at=BEGAN + 100, payment_preimage=SECRET)

    def forward(self, status: str) -> dict[str, Any]:
        item = {"in_channel": "108x1x0", "out_channel": "108x2x0", "in_msat": 5051, "out_msat": 5000, "fee_msat": 51}
        return self.change("forwards", {**item, "status": status, "resolved_time": BEGAN + 0.5})

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        assert method in NEEDS["clightning"].permissions["rune"]
        if method == "getinfo":
            return dict(json.loads(RECORDED[method]["body"]))
        return dict(getattr(self, method)(**parameters))

    def wait(self, subsystem: str, indexname: str, nextvalue: int) -> dict[str, Any]:
        assert (indexname, nextvalue) == ("updated", 0)
        return {"updated": max((item.get("updated_index", 0) for item in self.lists[subsystem]), default=0)}

    def waitanyinvoice(self, lastpay_index: int, timeout: int) -> dict[str, Any]:
        found = [item for item in self.lists["invoices"] if item["pay_index"] > lastpay_index]
        if not found:
            raise Fault(f"clightning answers waitanyinvoice with status 500: {RECORDED['waitanyinvoice']['body']}")
        return min(found, key=lambda item: int(item["pay_index"]))

    def _page(self, subsystem: str, start: int) -> list[dict[str, Any]]:
        found = [item for item in self.lists[subsystem] if item.get("updated_index", 0) >= start]
        return sorted(found, key=lambda item: int(item["updated_index"]))[:2]

    def listforwards(self, index: str, start: int, limit: int) -> dict[str, Any]:
        return {"forwards": self._page("forwards", start)}

    def listsendpays(self, payment_hash: str = "", start: int = 0, **_more: Any) -> dict[str, Any]:
        if payment_hash:
            return {"payments": [item for item in self.lists["sendpays"] if item["payment_hash"] == payment_hash]}
        return {"payments": self._page("sendpays", start)}

    def listpeerchannels(self) -> dict[str, Any]:
        return {"channels": self.channels}

    def listclosedchannels(self) -> dict[str, Any]:
        return {"closedchannels": self.closed}


@pytest.fixture
def lightningd() -> Clightning:
    return Clightning()


@pytest.fixture
def node(broker: Broker, lightningd: Clightning, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    program = importlib.import_module("collector_clightning")
    monkeypatch.setattr(program.Node, "_ask", lambda _self, method, **more: lightningd.ask(method, **more))
    yield program.Node(None, "")


def look(node: Any, name: str, topic: str, *more: Any) -> None:
    """What a collector does that was just started."""
    part = getattr(importlib.import_module("collector_clightning"), name)(node, *topics(topic))
    part.check()
    part.look("1", *more)


def ids(broker: Broker, topic: str) -> list[str]:
    return [event["event"]["id"] for event in broker.events(topic)]


def paid(broker: Broker) -> list[int]:
    return [event["pay_index"] for event in broker.events("clightning.invoice")]


def test_paid_invoices_are_written_in_their_order_and_once(broker: Broker, lightningd: Clightning, node: Any) -> None:
    for number in (1, 2, 3):
        lightningd.pay(number)
    look(node, "Invoices", "clightning.invoice", 0)
    look(node, "Invoices", "clightning.invoice", 0)
    assert paid(broker) == [1, 2, 3]
    first, whole = broker.events("clightning.invoice")[0], ids(broker, "clightning.invoice")
    assert (first["amount"], first["payment_hash"]) == (5000, f"{1:064x}")
    assert first["event"]["time"] == datetime.fromtimestamp(BEGAN + 1, UTC)
    for length in range(3):
        del broker.topics["clightning.invoice"][length:]
        look(node, "Invoices", "clightning.invoice", 0)
        assert ids(broker, "clightning.invoice") == whole
    # Invoices that are deleted leave a gap.
    del lightningd.lists["invoices"][:2]
    lightningd.pay(4)
    look(node, "Invoices", "clightning.invoice", 0)
    assert paid(broker) == [1, 2, 3, 4]


def test_node_that_lost_its_database_begins_again(broker: Broker, lightningd: Clightning, node: Any) -> None:
    for number in (1, 2, 3):
        lightningd.pay(number)
    look(node, "Invoices", "clightning.invoice", 0)
    lightningd.lists["invoices"].clear()
    lightningd.pay(1)
    look(node, "Invoices", "clightning.invoice", 0)
    assert paid(broker) == [1, 2, 3, 1]


def outcomes(broker: Broker) -> list[tuple[int, str, int, int]]:
    return [
        (int(event["payment_hash"], 16), event["outcome"], event["amount"], event["fee"])
        for event in broker.events("clightning.payment")
    ]


def test_payment_is_written_once_nothing_of_it_is_on_its_way(broker: Broker, lightningd: Clightning, node: Any) -> None:
    def seen() -> list[tuple[int, str, int, int]]:
        look(node, "Payments", "clightning.payment")
        return outcomes(broker)

    one, other, third = lightningd.send(7), lightningd.send(7), lightningd.send(7)
    failed = lightningd.send(8)
    lightningd.end(one, "complete")
    lightningd.end(failed, "failed")
    told = [(8, "failed", 4000, 0)]
    assert seen() == told
    lightningd.end(third, "failed")
    assert seen() == told
    lightningd.end(other, "complete")
    told.append((7, "succeeded", 8000, 6))
    assert seen() == told
    assert broker.events("clightning.payment")[-1]["parts"] == 2
    # The same is tried again: another attempt, of which one part fails on the way.
    lightningd.end(lightningd.send(8, 2), "failed")
    lightningd.end(lightningd.send(8, 2), "complete")
    told.append((8, "succeeded", 4000, 3))
    assert seen() == told
    whole = ids(broker, "clightning.payment")
    for length in range(1, 3):
        del broker.topics["clightning.payment"][length:]
        assert seen() == told
        assert ids(broker, "clightning.payment") == whole


def test_forwards_are_written_when_they_are_settled(broker: Broker, lightningd: Clightning, node: Any) -> None:
    for status in ("settled", "local_failed", "settled", "failed"):
        lightningd.forward(status)
    waiting = lightningd.forward("offered")
    look(node, "Forwards", "clightning.forward")
    lightningd.change("forwards", waiting, status="settled")
    look(node, "Forwards", "clightning.forward")
    look(node, "Forwards", "clightning.forward")
    found = broker.events("clightning.forward")
    assert [event["updated_index"] for event in found] == [1, 3, 6]
    first = {key: value for key, value in found[0].items() if key != "event"}
    assert first == {"incoming": "108x1x0", "outgoing": "108x2x0", "amount": 5000, "fee": 51, "updated_index": 1}


def channel(name: str, state: str, **more: Any) -> dict[str, Any]:
    about = {"total_msat": 1_000_000, "to_us_msat": 600_000, "opener": "local", "peer_id": SECRET}
    return {"channel_id": name, "state": state, "funding_txid": f"f{name}", "funding_outnum": 1, **about, **more}


def test_changes_of_channels_are_written_once(broker: Broker, lightningd: Clightning, node: Any) -> None:
    def seen() -> list[tuple[str, str]]:
        look(node, "Channels", "clightning.channel")
        look(node, "Channels", "clightning.channel")
        return [(event["change"], event["channel"]) for event in broker.events("clightning.channel")]

    opening = {key: value for key, value in channel("c", "OPENINGD").items() if key != "funding_txid"}
    lightningd.channels = [channel("a", "CHANNELD_AWAITING_LOCKIN"), channel("b", "CHANNELD_NORMAL"), opening]
    told = [("pending", "a"), ("opened", "b")]
    assert seen() == told
    lightningd.channels = [channel("a", "CHANNELD_NORMAL"), channel("b", "CLOSINGD_COMPLETE")]
    told.append(("opened", "a"))
    assert seen() == told
    lightningd.channels = [channel("a", "CHANNELD_AWAITING_SPLICE"), channel("b", "ONCHAIN", closer="remote")]
    told.append(("closed", "b"))
    assert seen() == told
    last = broker.events("clightning.channel")[-1]
    assert (last["point"], last["capacity"], last["balance"], last["closer"]) == ("fb:1", 1000, 600, "remote")
    assert (last["pending"], last["open"]) == ([], ["a"])
    # Forgotten before anybody looked.
    ended = channel("a", "", final_to_us_msat=590_000)
    del ended["to_us_msat"]
    lightningd.channels, lightningd.closed = [], [ended]
    told.append(("closed", "a"))
    assert seen() == told
    assert broker.events("clightning.channel")[-1]["balance"] == 590


def test_whole_node_is_followed_and_nothing_secret_is_written(
    broker: Broker, lightningd: Clightning, node: Any
) -> None:
    program = importlib.import_module("collector_clightning")
    lightningd.pay(1)
    lightningd.end(lightningd.send(2), "complete")
    lightningd.forward("settled")
    lightningd.channels = [channel("a", "CHANNELD_NORMAL")]
    parts = {"payment": program.Payments, "forward": program.Forwards, "channel": program.Channels}
    settings = {"client": {"sasl.username": "collector"}, "schemas": KNOWN, "datacenter": "a", "chain": "regtest",
                "hosts": {"clightning": "box"}}  # fmt: skip
    lightning = importlib.import_module("collector_lightning")
    source = lightning.LightningSource(settings, "clightning", node, {**parts, "invoice": program.Invoices})
    source.begin()
    source.step()
    names = [f"clightning.{name}" for name in ("invoice", "payment", "channel", "forward")]
    written = [event for topic in names for event in broker.events(topic)]
    assert [event["event"]["version"] for event in written] == ["v26.06.6"] * 4
    assert SECRET not in json.dumps(written, default=str)
