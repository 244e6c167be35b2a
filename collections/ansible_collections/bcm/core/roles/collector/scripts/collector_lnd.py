# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""collector_lnd.py: write what happens in lnd.

lnd numbers invoices in the order in which they are paid, and payments in that in which they are begun. An event has
what is needed to go on after it: these numbers, those of the payments whose outcome is not known, and the channels.
"""

from __future__ import annotations

import base64
import http.client
import json
import queue
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from bcm_guest.channel_backups import Lnd
from bcm_guest.prove import Fault
from collector_lightning import BEGAN, Bodies, Channels, Part, States, moment, run_node, show_channels
from collector_topic import Broker, Topic, now

#: between two looks at payments and channels
_PAUSE = 2.0  # seconds
_PAGE = 500
#: nanoseconds of a second
_NANO = 10**9
_SECOND, _MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)


class Unknown(Fault):
    """lnd does not have an invoice."""


class Node(Lnd):
    """lnd's REST API."""

    def version(self) -> str:
        """What lnd calls its version. Raises Fault."""
        return str(self._ask("/v1/getinfo")["version"])

    def invoices(self) -> Iterator[dict[str, Any]]:
        """All invoices, in the order in which they were made. Raises Fault."""
        offset = 0
        while found := (page := self._ask(f"/v1/invoices?index_offset={offset}&num_max_invoices={_PAGE}"))["invoices"]:
            yield from found
            offset = int(page["last_index_offset"])

    def invoice(self, payment_hash: str) -> dict[str, Any]:
        """An invoice. Raises Unknown and Fault."""
        try:
            return self._ask(f"/v1/invoice/{payment_hash}")
        except Fault as fault:
            if "unable to locate invoice" in str(fault):
                raise Unknown(str(fault)) from fault
            raise

    def paid_invoices(self, after: int) -> Iterator[dict[str, Any]]:
        """The invoices that were paid after the one with that number, which is not 0, and those that are, as they are.

        Among them are new ones. Raises OSError, HTTPException, ValueError, Fault.
        """
        stream = self._stream()
        try:
            stream.request("GET", f"/v1/invoices/subscribe?settle_index={after}", headers=self._headers)
            answer = stream.getresponse()
            while line := answer.readline():
                told = json.loads(line)
                if "result" not in told:
                    raise Fault(f"lnd tells of no invoices: {told}")
                yield told["result"]
        finally:
            stream.close()

    def payments(self, after: int, most: int = _PAGE) -> list[dict[str, Any]]:
        """The payments after the one with that number, in their order. Raises Fault."""
        query = f"include_incomplete=true&index_offset={after}&max_payments={most}"
        return list(self._ask(f"/v1/payments?{query}")["payments"])

    def newest_payment(self) -> dict[str, Any] | None:
        """Raises Fault."""
        found = self._ask("/v1/payments?include_incomplete=true&reversed=true&max_payments=1")["payments"]
        return found[0] if found else None

    def states(self) -> States:
        """Raises Fault."""
        # In this order, since one that is opened meanwhile is then in both, and in neither if it is closed.
        found = self._ask("/v1/channels/pending")
        opening = [item["channel"] for item in found["pending_open_channels"]]
        closing = [*found["waiting_close_channels"], *found["pending_force_closing_channels"]]
        return States(
            {item["channel_point"]: _describe(item) for item in opening},
            {item["channel_point"]: _describe(item) for item in self._ask("/v1/channels")["channels"]},
            {item["channel"]["channel_point"] for item in closing},
        )

    def closed_channels(self) -> Bodies:
        """Raises Fault."""
        return {
            item["channel_point"]: {
                "capacity": int(item["capacity"]),
                "balance": int(item["settled_balance"]),
                "is_initiator": item["open_initiator"] == "INITIATOR_LOCAL",
                "how": item["close_type"].lower(),
            }
            for item in self._ask("/v1/channels/closed")["channels"]
        }

    def forwards(self, since: int) -> Iterator[dict[str, Any]]:
        """The payments that were forwarded in that second or later, in their order. Raises Fault."""
        query = {"start_time": str(since), "index_offset": 0, "num_max_events": _PAGE}
        while found := (page := self._ask("/v1/switch", query))["forwarding_events"]:
            yield from found
            query["index_offset"] = page["last_offset_index"]


def _describe(item: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says of a channel that is not closed."""
    return {
        "capacity": int(item["capacity"]),
        "balance": int(item["local_balance"]),
        "is_initiator": item["initiator"] in (True, "INITIATOR_LOCAL"),
        "how": "",
    }


class Stream(threading.Thread):
    """The invoices that are paid after the one with a number, as lnd tells of them; a Fault if it cannot.

    It ends if lnd says nothing for a while.
    """

    def __init__(self, node: Node, after: int) -> None:
        super().__init__(daemon=True)
        self._node, self._after = node, after
        self.told: queue.SimpleQueue[dict[str, Any] | Fault] = queue.SimpleQueue()

    def run(self) -> None:
        try:
            for invoice in self._node.paid_invoices(self._after):
                self.told.put(invoice)
            self.told.put(Fault("lnd tells no more of invoices"))
        except TimeoutError:
            pass
        except (Fault, OSError, ValueError, http.client.HTTPException) as fault:
            self.told.put(Fault(f"lnd tells no more of invoices: {fault!r}"))


class Invoices(Part):
    """The invoices that were paid, in the order in which they were."""

    def __init__(self, node: Node, topic: Topic) -> None:
        super().__init__(node, topic)
        self._stream: Stream | None = None
        newest = topic.newest()
        #: lnd's number of the newest event, and its hash; 0 if there is none
        self._settled: int = newest["settle_index"] if newest else 0
        self._hash: str = newest["payment_hash"] if newest else ""

    def _is_there(self) -> bool:
        """Whether lnd has the newest event: it has not, after it lost its database and was restored. Raises Fault."""
        try:
            return int(self._node.invoice(self._hash)["settle_index"]) == self._settled
        except Unknown:
            return False

    def look(self, version: str, seconds: float = _PAUSE) -> None:
        """Write what lnd tells of within some seconds. Raises Fault."""
        if self._stream is None and self._settled and not self._is_there():
            self._settled = 0
        # Asked for those after 0, the stream has new ones alone.
        if self._settled == 0:
            paid = [item for item in self._node.invoices() if _is_paid(item)]
            for item in sorted(paid, key=lambda item: int(item["settle_index"])):
                self._write(item, version)
        if self._stream is None and self._settled:
            self._stream = Stream(self._node, self._settled)
            self._stream.start()
        end = now() + timedelta(seconds=seconds)
        told = self._stream.told if self._stream else queue.SimpleQueue()
        while (left := (end - now()).total_seconds()) > 0:
            try:
                item = told.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(item, Fault):
                self._stream = None
                raise item
            if _is_paid(item):
                self._write(item, version)
        if self._stream and not self._stream.is_alive() and told.empty():
            self._stream = None

    def _write(self, item: Mapping[str, Any], version: str) -> None:
        number = int(item["settle_index"])
        if number <= self._settled:
            return
        body = {
            "payment_hash": base64.b64decode(item["r_hash"]).hex(),
            "amount": int(item["amt_paid_msat"]),
            "created": moment(int(item["creation_date"])),
            "settle_index": number,
        }
        when = moment(int(item["settle_date"]))
        self._topic.write(body["payment_hash"], body, version, when, _SECOND, reported=True)
        self._settled, self._hash = number, body["payment_hash"]


class Payments(Part):
    """The payments that arrived or failed, in the order in which that is seen."""

    def __init__(self, node: Node, topic: Topic) -> None:
        super().__init__(node, topic)
        newest = topic.newest()
        if newest and self._has_begun_again(newest):
            newest = None
        self._last: int = newest["last_index"] if newest else 0
        #: those of the payments up to the last one whose outcome is not known
        self._in_flight: set[int] = set(newest["in_flight"]) if newest else set()
        self._seen = newest["event"]["time"] if newest else BEGAN

    def _has_begun_again(self, newest: Mapping[str, Any]) -> bool:
        """Whether lnd counts from 1 again, after it lost its database and was restored.

        Payments that a person has deleted leave a gap, and older ones before it.
        """
        found = self._node.newest_payment()
        if found is None or int(found["payment_index"]) >= newest["last_index"]:
            return False
        return moment(int(found["creation_time_ns"]) / 1e9) > newest["event"]["time"] + _SECOND

    def look(self, version: str) -> None:
        began = now()
        for number in sorted(self._in_flight):
            # One that is not there any more was deleted.
            found = [item for item in self._node.payments(number - 1, 1) if int(item["payment_index"]) == number]
            if not found or _has_outcome(found[0]):
                self._in_flight.remove(number)
            if found and number not in self._in_flight:
                self._write(found[0], version)
        while page := self._node.payments(self._last):
            for item in page:
                self._last = int(item["payment_index"])
                if _has_outcome(item):
                    self._write(item, version)
                else:
                    self._in_flight.add(self._last)
        self._seen = began

    def _write(self, item: Mapping[str, Any], version: str) -> None:
        is_paid = item["status"] == "SUCCEEDED"
        body = {
            "outcome": "succeeded" if is_paid else "failed",
            "payment_hash": item["payment_hash"],
            "amount": int(item["value_msat"]),
            "fee": int(item["fee_msat"]) if is_paid else 0,
            "failure": "" if is_paid else item["failure_reason"].removeprefix("FAILURE_REASON_").lower(),
            "created": moment(int(item["creation_time_ns"]) / 1e9),
            "payment_index": int(item["payment_index"]),
            "last_index": self._last,
            "in_flight": sorted(self._in_flight),
        }
        # lnd forgets the attempts of a payment that failed.
        ends = [int(attempt["resolve_time_ns"]) for attempt in item["htlcs"]]
        if is_paid:
            when, precision = moment(max(ends) / 1e9), _MILLISECOND
        else:
            when, precision = now(), now() - max(self._seen, body["created"])
        self._topic.write(body["payment_hash"], body, version, when, precision, reported=is_paid)


class Forwards(Part):
    """The payments of others that went through the node."""

    def __init__(self, node: Node, topic: Topic) -> None:
        super().__init__(node, topic)
        newest = topic.newest()
        #: lnd's time of the newest one, in nanoseconds, which no other one has
        self._last: int = newest["settled"] if newest else _NANO

    def look(self, version: str) -> None:
        for item in self._node.forwards(self._last // _NANO):
            if int(item["timestamp_ns"]) > self._last:
                self._last = int(item["timestamp_ns"])
                self._write(item, version)

    def _write(self, item: Mapping[str, Any], version: str) -> None:
        body = {
            "incoming": _place(int(item["chan_id_in"])),
            "outgoing": _place(int(item["chan_id_out"])),
            "amount": int(item["amt_out_msat"]),
            "fee": int(item["fee_msat"]),
            "settled": self._last,
        }
        self._topic.write(body["incoming"], body, version, moment(self._last / _NANO), _MILLISECOND, reported=True)


def _place(number: int) -> str:
    """lnd's number of a channel as BOLT 7 writes it: the block, the transaction in it, and the output."""
    return f"{number >> 40}x{number >> 16 & 0xFFFFFF}x{number & 0xFFFF}"


def _is_paid(invoice: Mapping[str, Any]) -> bool:
    """Whether it is paid. One that is paid again and again (AMP) never is."""
    return bool(invoice["state"] == "SETTLED")


def _has_outcome(payment: Mapping[str, Any]) -> bool:
    return payment["status"] in ("SUCCEEDED", "FAILED")


def show(settings: Mapping[str, Any], broker: Broker) -> dict[str, list[str]]:
    """The open channels by the events, and by lnd."""
    return show_channels("lnd", Node, settings, broker)


if __name__ == "__main__":
    run_node("lnd", Node, payment=Payments, forward=Forwards, channel=Channels, invoice=Invoices)
