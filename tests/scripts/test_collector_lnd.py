# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role collector writes of lnd, with a node and a broker of the tests. tests/e2e has the real ones."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from tests.scripts.test_collector import Broker, broker, topics

__all__ = ["broker"]

BEGAN = 1_700_000_000
SECRET = "what nobody is told"


class Lnd:
    """An lnd: what it answers to each request."""

    def __init__(self) -> None:
        self.invoices: list[dict[str, Any]] = []
        self.payments: list[dict[str, Any]] = []
        self.opening: dict[str, Any] = {}
        self.there: dict[str, Any] = {}
        self.closing: dict[str, Any] = {}
        self.closed: dict[str, Any] = {}
        self.forwards: list[dict[str, str]] = []
        self.asked: list[str] = []

    def invoice(self, settled: int = 0) -> dict[str, Any]:
        """Make an invoice; with a number, it is paid."""
        number = len(self.invoices) + 1
        made = {
            "add_index": str(number), "r_hash": base64.b64encode(number.to_bytes(32, "big")).decode(),
            "r_preimage": SECRET, "memo": SECRET, "state": "OPEN", "settle_index": "0", "settle_date": "0",
            "amt_paid_msat": "0", "creation_date": str(BEGAN + number),
        }  # fmt: skip
        self.invoices.append(made)
        return self.pay(made, settled) if settled else made

    def pay(self, invoice: dict[str, Any], number: int) -> dict[str, Any]:
        paid = {"state": "SETTLED", "settle_index": str(number), "settle_date": str(BEGAN + 100 + number)}
        invoice.update(paid, amt_paid_msat="5000")
        return invoice

    def send(self, status: str, attempts: int = 1) -> dict[str, Any]:
        """Begin a payment, which comes to this."""
        number = len(self.payments) + 1
        made = {
            "payment_index": str(number), "payment_hash": f"{number:064x}", "payment_preimage": SECRET,
            "payment_request": SECRET, "status": status, "value_msat": "7000", "fee_msat": "3",
            "failure_reason": "FAILURE_REASON_NO_ROUTE" if status == "FAILED" else "FAILURE_REASON_NONE",
            "creation_time_ns": str((BEGAN + number) * 10**9),
            "htlcs": [{"resolve_time_ns": str((BEGAN + number) * 10**9 + 5 * 10**6)}] * attempts,
        }  # fmt: skip
        self.payments.append(made)
        return made

    def paid_after(self, number: int) -> list[dict[str, Any]]:
        found = [item for item in self.invoices if int(item["settle_index"]) > number]
        return sorted(found, key=lambda item: int(item["settle_index"]))

    def forward(self, nanoseconds: int) -> None:
        """A payment goes through the node."""
        places = {"chan_id_in": str(108 << 40 | 1 << 16), "chan_id_out": str(108 << 40 | 2 << 16 | 1)}
        made = {"timestamp_ns": str(BEGAN * 10**9 + nanoseconds), "amt_out_msat": "5000", "fee_msat": "51", **places}
        self.forwards.append(made)

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        self.asked.append(path)
        if body:
            assert path == "/v1/switch"
            since = int(body["start_time"]) * 10**9
            found = [item for item in self.forwards if int(item["timestamp_ns"]) >= since][body["index_offset"] :][:2]
            return {"forwarding_events": found, "last_offset_index": body["index_offset"] + len(found)}
        path, _mark, words = path.partition("?")
        query = dict(word.split("=") for word in words.split("&")) if words else {}
        return dict(getattr(self, "_" + path.removeprefix("/v1/").replace("/", "_").partition("_0")[0])(query, path))

    def _getinfo(self, _query: Mapping[str, str], _path: str) -> dict[str, Any]:
        return {"version": "0.21.3-beta"}

    def _invoices(self, query: Mapping[str, str], _path: str) -> dict[str, Any]:
        start = int(query["index_offset"])
        page = self.invoices[start : start + 2]
        return {"invoices": page, "last_index_offset": str(start + len(page))}

    def _invoice(self, _query: Mapping[str, str], path: str) -> dict[str, Any]:
        wanted = bytes.fromhex(path.rpartition("/")[2])
        for item in self.invoices:
            if base64.b64decode(item["r_hash"]) == wanted:
                return item
        raise Fault("lnd answers with status 404: unable to locate invoice")

    def _payments(self, query: Mapping[str, str], _path: str) -> dict[str, Any]:
        if query.get("reversed"):
            return {"payments": self.payments[-1:]}
        found = [item for item in self.payments if int(item["payment_index"]) > int(query["index_offset"])]
        return {"payments": found[: int(query["max_payments"])]}

    def _channels(self, _query: Mapping[str, str], _path: str) -> dict[str, Any]:
        return {"channels": list(self.there.values())}

    def _channels_closed(self, _query: Mapping[str, str], _path: str) -> dict[str, Any]:
        return {"channels": list(self.closed.values())}

    def _channels_pending(self, _query: Mapping[str, str], _path: str) -> dict[str, Any]:
        opening, closing = ([{"channel": item} for item in some.values()] for some in (self.opening, self.closing))
        return {
            "pending_open_channels": opening, "waiting_close_channels": closing, "pending_force_closing_channels": []
        }  # fmt: skip


@pytest.fixture
def lnd() -> Lnd:
    return Lnd()


@pytest.fixture
def node(broker: Broker, lnd: Lnd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The node as the program sees it; its stream tells what is paid, and ends."""
    program = importlib.import_module("collector_lnd")
    monkeypatch.setattr(program.Node, "_ask", lambda _self, *words: lnd.ask(*words))
    monkeypatch.setattr(program.Node, "paid_invoices", lambda _self, after: iter(lnd.paid_after(after)))
    yield program.Node(None, "")


def part(name: str, node: Any, topic: str) -> Any:
    """A part of a collector that was just started."""
    return getattr(importlib.import_module("collector_lnd"), name)(node, *topics(topic))


def look_at_invoices(node: Any) -> Any:
    """Until the stream has ended."""
    invoices = part("Invoices", node, "lnd.invoice")
    with pytest.raises(Fault, match="tells no more"):
        for _look in range(3):
            invoices.look("1", 1)
    return invoices


def numbers(broker: Broker) -> list[int]:
    return [event["settle_index"] for event in broker.events("lnd.invoice")]


def test_paid_invoices_are_written_in_their_order_and_once(broker: Broker, lnd: Lnd, node: Any) -> None:
    for settled in (3, 0, 1, 2, 0):
        lnd.invoice(settled)
    look_at_invoices(node)
    assert numbers(broker) == [1, 2, 3]
    first = broker.events("lnd.invoice")[0]
    assert (first["amount"], first["payment_hash"]) == (5000, f"{3:064x}")
    assert first["event"]["time"] == datetime.fromtimestamp(BEGAN + 101, UTC)
    assert (first["event"]["time_source"], first["event"]["stack"]) == ("reported", "lnd")
    # Those that are paid while nobody looks, by a collector that is killed anywhere.
    lnd.pay(lnd.invoices[1], 4)
    lnd.invoice(5)
    look_at_invoices(node)
    assert numbers(broker) == [1, 2, 3, 4, 5]
    del broker.topics["lnd.invoice"][3:]
    look_at_invoices(node)
    look_at_invoices(node)
    assert numbers(broker) == [1, 2, 3, 4, 5]


def test_first_invoice_is_found_though_the_stream_cannot_begin_with_it(broker: Broker, lnd: Lnd, node: Any) -> None:
    invoices = part("Invoices", node, "lnd.invoice")
    made = lnd.invoice()
    invoices.look("1", 0.01)
    assert numbers(broker) == []
    lnd.pay(made, 1)
    invoices.look("1", 0)
    assert numbers(broker) == [1]


def test_invoices_of_a_restored_node_begin_again(broker: Broker, lnd: Lnd, node: Any) -> None:
    for settled in (1, 2, 3):
        lnd.invoice(settled)
    look_at_invoices(node)
    lnd.invoices = lnd.invoices[:1]
    look_at_invoices(node)
    assert numbers(broker) == [1, 2, 3, 1]


def outcomes(broker: Broker) -> list[tuple[int, str]]:
    return [(event["payment_index"], event["outcome"]) for event in broker.events("lnd.payment")]


def look_at_payments(node: Any) -> None:
    part("Payments", node, "lnd.payment").look("1")


def test_payments_are_written_when_they_have_an_outcome(broker: Broker, lnd: Lnd, node: Any) -> None:
    lnd.send("SUCCEEDED")
    waiting = [lnd.send("IN_FLIGHT"), lnd.send("INITIATED")]
    lnd.send("FAILED", attempts=0)
    look_at_payments(node)
    assert outcomes(broker) == [(1, "succeeded"), (4, "failed")]
    sent, failed = broker.events("lnd.payment")
    assert (sent["amount"], sent["fee"], sent["failure"]) == (7000, 3, "")
    assert sent["event"]["time"] == datetime.fromtimestamp(BEGAN + 1.005, UTC)
    assert (failed["amount"], failed["fee"], failed["failure"]) == (7000, 0, "no_route")
    assert (failed["last_index"], failed["in_flight"]) == (4, [2, 3])
    waiting[1]["status"] = "SUCCEEDED"
    lnd.send("SUCCEEDED")
    look_at_payments(node)
    waiting[0].update(status="FAILED", failure_reason="FAILURE_REASON_TIMEOUT")
    look_at_payments(node)
    look_at_payments(node)
    assert outcomes(broker)[2:] == [(3, "succeeded"), (5, "succeeded"), (2, "failed")]


def test_payments_go_on_wherever_the_collector_was_killed(broker: Broker, lnd: Lnd, node: Any) -> None:
    for status in ("SUCCEEDED", "IN_FLIGHT", "FAILED", "IN_FLIGHT", "SUCCEEDED"):
        lnd.send(status)
    look_at_payments(node)
    lnd.payments[1]["status"] = lnd.payments[3]["status"] = "SUCCEEDED"
    look_at_payments(node)
    told, whole = outcomes(broker), [event["event"]["id"] for event in broker.events("lnd.payment")]
    assert [number for number, _outcome in told] == [1, 3, 5, 2, 4]
    for length in range(3, 5):
        del broker.topics["lnd.payment"][length:]
        look_at_payments(node)
        assert [event["event"]["id"] for event in broker.events("lnd.payment")] == whole
    for length in range(3):
        del broker.topics["lnd.payment"][length:]
        look_at_payments(node)
        assert sorted(outcomes(broker)) == sorted(told)


def test_deleted_payments_are_no_reason_to_begin_again(broker: Broker, lnd: Lnd, node: Any) -> None:
    for status in ("SUCCEEDED", "IN_FLIGHT", "FAILED"):
        lnd.send(status)
    look_at_payments(node)
    lnd.payments = lnd.payments[:1]
    look_at_payments(node)
    assert len(outcomes(broker)) == 2
    lnd.payments = []
    look_at_payments(node)
    lnd.send("SUCCEEDED").update(payment_index="4", creation_time_ns=str((BEGAN + 4) * 10**9))
    look_at_payments(node)
    assert outcomes(broker)[2:] == [(4, "succeeded")]


def test_payments_of_a_restored_node_begin_again(broker: Broker, lnd: Lnd, node: Any) -> None:
    for _number in range(3):
        lnd.send("SUCCEEDED")
    look_at_payments(node)
    lnd.payments = []
    lnd.send("SUCCEEDED")["creation_time_ns"] = str((BEGAN + 900) * 10**9)
    look_at_payments(node)
    assert outcomes(broker)[3:] == [(1, "succeeded")]


def channel(point: str, **more: Any) -> dict[str, Any]:
    about = {"capacity": "1000", "local_balance": "600", "initiator": "INITIATOR_LOCAL", "remote_pubkey": SECRET}
    return {"channel_point": point, **about, **more}


def test_changes_of_channels_are_written_once(broker: Broker, lnd: Lnd, node: Any) -> None:
    def look() -> list[tuple[str, str]]:
        part("Channels", node, "lnd.channel").look("1")
        part("Channels", node, "lnd.channel").look("1")
        return [(event["change"], event["channel"]) for event in broker.events("lnd.channel")]

    lnd.opening = {"a:0": channel("a:0"), "b:1": channel("b:1", initiator="INITIATOR_REMOTE")}
    told = [("pending", "a:0"), ("pending", "b:1")]
    assert look() == told
    lnd.opening, lnd.there = {"b:1": channel("b:1")}, {"a:0": channel("a:0", initiator=True)}
    told.append(("opened", "a:0"))
    assert look() == told
    lnd.opening, lnd.there, lnd.closing = {}, {"b:1": channel("b:1", initiator=False)}, {"a:0": channel("a:0")}
    told.append(("opened", "b:1"))
    assert look() == told
    lnd.closing = {}
    assert look() == told  # lnd has not said yet that it is closed
    ended = {"settled_balance": "590", "close_type": "COOPERATIVE_CLOSE", "open_initiator": "INITIATOR_LOCAL"}
    lnd.closed = {"a:0": channel("a:0", **ended), "c:0": channel("c:0", **ended)}
    told.append(("closed", "a:0"))
    assert look() == told
    last = broker.events("lnd.channel")[-1]
    assert (last["balance"], last["how"], last["is_initiator"]) == (590, "cooperative_close", True)
    assert (last["pending"], last["open"]) == ([], ["b:1"])
    assert [event["is_initiator"] for event in broker.events("lnd.channel")] == [True, False, True, False, True]


def test_forwards_are_written_in_their_order_and_once(broker: Broker, lnd: Lnd, node: Any) -> None:
    def look() -> list[int]:
        part("Forwards", node, "lnd.forward").look("1")
        return [event["settled"] - BEGAN * 10**9 for event in broker.events("lnd.forward")]

    assert look() == []
    for nanoseconds in (1, 2, 3, 10**9):
        lnd.forward(nanoseconds)
    assert look() == [1, 2, 3, 10**9]
    lnd.forward(10**9 + 1)
    assert look() == look() == [1, 2, 3, 10**9, 10**9 + 1]
    first = broker.events("lnd.forward")[0]
    assert (first["incoming"], first["outgoing"]) == ("108x1x0", "108x2x1")
    assert (first["amount"], first["fee"]) == (5000, 51)
    whole = [event["event"]["id"] for event in broker.events("lnd.forward")]
    for length in range(5):
        del broker.topics["lnd.forward"][length:]
        look()
        assert [event["event"]["id"] for event in broker.events("lnd.forward")] == whole


def test_events_have_nothing_that_lets_spend_or_names_others(broker: Broker, lnd: Lnd, node: Any) -> None:
    lnd.invoice(1)
    lnd.send("SUCCEEDED")
    lnd.there = {"a:0": channel("a:0", initiator=True)}
    look_at_invoices(node)
    look_at_payments(node)
    part("Channels", node, "lnd.channel").look("1")
    written = [event for topic in ("lnd.invoice", "lnd.payment", "lnd.channel") for event in broker.events(topic)]
    assert len(written) == 3
    assert SECRET not in json.dumps(written, default=str)
