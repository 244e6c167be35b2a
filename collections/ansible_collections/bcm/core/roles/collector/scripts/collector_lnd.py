# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""collector_lnd.py follow | channels: write what happens in lnd; or print the channels by the events, and by lnd.

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
from datetime import UTC, datetime, timedelta
from typing import Any

from bcm_guest.channel_backups import Lnd
from bcm_guest.prove import Endpoint, Fault
from collector_topic import Broker, Source, Topic, now, run

#: between two looks at payments and channels
_PAUSE = 2.0  # seconds
_PAGE = 500
_SECOND, _MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
#: no channel is older
_LIGHTNING_BEGAN = datetime(2018, 1, 1, tzinfo=UTC)


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

    def open_channels(self) -> dict[str, dict[str, Any]]:
        """Those that are open, by their points. Raises Fault."""
        return {item["channel_point"]: item for item in self._ask("/v1/channels")["channels"]}

    def unsettled_channels(self) -> tuple[dict[str, dict[str, Any]], set[str]]:
        """Those that wait to be opened, and the points of those that wait to be closed. Raises Fault."""
        found = self._ask("/v1/channels/pending")
        opening = {item["channel"]["channel_point"]: item["channel"] for item in found["pending_open_channels"]}
        closing = [*found["waiting_close_channels"], *found["pending_force_closing_channels"]]
        return opening, {item["channel"]["channel_point"] for item in closing}

    def closed_channels(self) -> dict[str, dict[str, Any]]:
        """Raises Fault."""
        return {item["channel_point"]: item for item in self._ask("/v1/channels/closed")["channels"]}


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


class Invoices:
    """The invoices that were paid, in the order in which they were."""

    def __init__(self, node: Node, topic: Topic) -> None:
        self._node, self._topic = node, topic
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

    def look(self, version: str, seconds: float) -> None:
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
            "created": _moment(int(item["creation_date"])),
            "settle_index": number,
        }
        when = _moment(int(item["settle_date"]))
        self._topic.write(body["payment_hash"], body, version, when, _SECOND, reported=True)
        self._settled, self._hash = number, body["payment_hash"]


class Payments:
    """The payments that arrived or failed, in the order in which that is seen."""

    def __init__(self, node: Node, topic: Topic) -> None:
        self._node, self._topic = node, topic
        newest = topic.newest()
        if newest and self._has_begun_again(newest):
            newest = None
        self._last: int = newest["last_index"] if newest else 0
        #: those of the payments up to the last one whose outcome is not known
        self._in_flight: set[int] = set(newest["in_flight"]) if newest else set()
        self._seen = newest["event"]["time"] if newest else _LIGHTNING_BEGAN

    def _has_begun_again(self, newest: Mapping[str, Any]) -> bool:
        """Whether lnd counts from 1 again, after it lost its database and was restored.

        Payments that a person has deleted leave a gap, and older ones before it.
        """
        found = self._node.newest_payment()
        if found is None or int(found["payment_index"]) >= newest["last_index"]:
            return False
        return _moment(int(found["creation_time_ns"]) / 1e9) > newest["event"]["time"] + _SECOND

    def look(self, version: str) -> None:
        """Write what happened since the last look. Raises Fault."""
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
            "created": _moment(int(item["creation_time_ns"]) / 1e9),
            "payment_index": int(item["payment_index"]),
            "last_index": self._last,
            "in_flight": sorted(self._in_flight),
        }
        # lnd forgets the attempts of a payment that failed.
        ends = [int(attempt["resolve_time_ns"]) for attempt in item["htlcs"]]
        if is_paid:
            when, precision = _moment(max(ends) / 1e9), _MILLISECOND
        else:
            when, precision = now(), now() - max(self._seen, body["created"])
        self._topic.write(body["payment_hash"], body, version, when, precision, reported=is_paid)


class Channels:
    """The channels that wait to be opened, are open, or are closed."""

    def __init__(self, node: Node, topic: Topic) -> None:
        self._node, self._topic = node, topic
        newest = topic.newest()
        self._pending: set[str] = set(newest["pending"]) if newest else set()
        self._open: set[str] = set(newest["open"]) if newest else set()
        self._seen = newest["event"]["time"] if newest else _LIGHTNING_BEGAN

    def look(self, version: str) -> None:
        """Write what happened since the last look. Raises Fault."""
        began = now()
        # In this order, since one that is opened meanwhile is then in both, and in neither if it is closed.
        opening, closing = self._node.unsettled_channels()
        there = self._node.open_channels()
        for point in sorted(opening.keys() - there.keys() - self._pending - self._open):
            self._pending.add(point)
            self._write("pending", point, opening[point], version)
        for point in sorted(there.keys() - self._open):
            self._pending.discard(point)
            self._open.add(point)
            self._write("opened", point, there[point], version)
        if gone := (self._pending | self._open) - opening.keys() - there.keys() - closing:
            closed = self._node.closed_channels()
            for point in sorted(gone & closed.keys()):
                self._pending.discard(point)
                self._open.discard(point)
                self._write("closed", point, closed[point], version)
        self._seen = began

    def _write(self, change: str, point: str, item: Mapping[str, Any], version: str) -> None:
        is_closed = change == "closed"
        who = item["open_initiator"] if is_closed else item["initiator"]
        body = {
            "change": change,
            "channel": point,
            "capacity": int(item["capacity"]),
            "balance": int(item["settled_balance" if is_closed else "local_balance"]),
            "is_initiator": who in (True, "INITIATOR_LOCAL"),
            "how": item["close_type"].lower() if is_closed else "",
            "pending": sorted(self._pending),
            "open": sorted(self._open),
        }
        self._topic.write(point, body, version, now(), now() - self._seen)


def _is_paid(invoice: Mapping[str, Any]) -> bool:
    """Whether it is paid. One that is paid again and again (AMP) never is."""
    return bool(invoice["state"] == "SETTLED")


def _has_outcome(payment: Mapping[str, Any]) -> bool:
    return payment["status"] in ("SUCCEEDED", "FAILED")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


class LndSource(Source):
    """What is written of lnd."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, "lnd", "invoice", "payment", "channel")
        self._node = _node(settings)
        self._version = ""

    def begin(self) -> None:
        invoices, payments, channels = self.topics
        self._invoices, self._payments = Invoices(self._node, invoices), Payments(self._node, payments)
        self._channels = Channels(self._node, channels)

    def step(self) -> None:
        try:
            self._version = self._version or self._node.version()
            self._payments.look(self._version)
            self._channels.look(self._version)
            self._invoices.look(self._version, _PAUSE)
        except Fault:
            # It may be another version that answers next.
            self._version = ""
            raise


def show_channels(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """The channels by the events, and those by lnd."""
    newest = Topic("lnd.channel", Broker(settings), "lnd").newest()
    return {"written": newest["open"] if newest else [], "there": sorted(_node(settings).open_channels())}


def _node(settings: Mapping[str, Any]) -> Node:
    return Node(Endpoint.of(settings["rest"]), settings["credential"])


if __name__ == "__main__":
    run("lnd", LndSource, show_channels)
