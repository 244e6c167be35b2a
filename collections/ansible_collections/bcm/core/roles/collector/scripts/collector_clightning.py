# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""collector_clightning.py: write what happens in Core Lightning.

It numbers invoices in the order in which they are paid, and each change of a part of a payment, and of a forward. The
number is in the event, and what comes next is asked for after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from bcm_guest.channel_backups import Clightning
from bcm_guest.prove import Fault
from collector_lightning import Bodies, Channels, Part, States, moment, run_node, show_channels
from collector_topic import Broker, Topic

#: between two looks at payments, forwards and channels
_PAUSE = 2  # seconds
_PAGE = 500
_SECOND, _MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)
_PENDING = ("CHANNELD_AWAITING_LOCKIN", "DUALOPEND_AWAITING_LOCKIN")
_OPEN = ("CHANNELD_NORMAL", "CHANNELD_AWAITING_SPLICE")
#: what it answers if no invoice was paid within the time
_NONE_PAID = '"code":904'


class Node(Clightning):
    """Core Lightning's REST API."""

    def version(self) -> str:
        """What it calls its version. Raises Fault."""
        return str(self._ask("getinfo")["version"])

    def paid_invoice(self, after: int, seconds: int) -> dict[str, Any] | None:
        """The invoice that was paid next after the one with that number, None if none is in time. Raises Fault."""
        try:
            return self._ask("waitanyinvoice", lastpay_index=after, timeout=seconds)
        except Fault as fault:
            if _NONE_PAID in str(fault).replace(" ", ""):
                return None
            raise

    def changed(self, call: str, key: str, after: int) -> Iterator[dict[str, Any]]:
        """The items of a list that changed after the change with that number, in their order. Raises Fault."""
        while page := self._ask(call, index="updated", start=after + 1, limit=_PAGE)[key]:
            yield from page
            after = page[-1]["updated_index"]

    def last_change(self, subsystem: str) -> int:
        """The number of the newest change. Raises Fault."""
        return int(self._ask("wait", subsystem=subsystem, indexname="updated", nextvalue=0)["updated"])

    def parts(self, payment_hash: str, group: int) -> list[dict[str, Any]]:
        """All parts of an attempt to pay. Raises Fault."""
        found = self._ask("listsendpays", payment_hash=payment_hash)["payments"]
        return [item for item in found if item["groupid"] == group]

    def states(self) -> States:
        """Raises Fault."""
        found = [item for item in self._ask("listpeerchannels")["channels"] if "funding_txid" in item]
        pending, there = (
            {item["channel_id"]: _describe(item) for item in found if item["state"] in states}
            for states in (_PENDING, _OPEN)
        )
        ended = {item["channel_id"] for item in found if item["state"] == "ONCHAIN"}
        return States(pending, there, {item["channel_id"] for item in found} - pending.keys() - there.keys() - ended)

    def closed_channels(self) -> Bodies:
        """Those whose last transaction is in a block. Raises Fault."""
        ended = [item for item in self._ask("listpeerchannels")["channels"] if item["state"] == "ONCHAIN"]
        return {
            item["channel_id"]: _describe(item)
            for item in (*self._ask("listclosedchannels")["closedchannels"], *ended)
            if "funding_txid" in item
        }


def _describe(item: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says of a channel."""
    return {
        "point": f"{item['funding_txid']}:{item['funding_outnum']}",
        "capacity": item["total_msat"] // 1000,
        "balance": item["to_us_msat" if "to_us_msat" in item else "final_to_us_msat"] // 1000,
        "is_initiator": item["opener"] == "local",
        "closer": item.get("closer", ""),
    }


class Changes(Part):
    """What a topic has of a list whose changes are numbered; after a restore, the numbers begin again."""

    def __init__(self, node: Node, topic: Topic, subsystem: str) -> None:
        super().__init__(node, topic)
        self._subsystem = subsystem
        newest = topic.newest()
        #: the number of the newest event; 0 if there is none
        self._last: int = newest["updated_index"] if newest else 0

    def check(self) -> None:
        # It begins again if it has lost its database.
        if self._node.last_change(self._subsystem) < self._last:
            self._last = 0

    def _write(self, key: str, body: Mapping[str, Any], version: str, time: float, precision: timedelta) -> None:
        whole = {**body, "updated_index": self._last}
        self._topic.write(key, whole, version, moment(time), precision, reported=True)


class Invoices(Changes):
    """The invoices that were paid, in the order in which they were."""

    def __init__(self, node: Node, topic: Topic) -> None:
        super().__init__(node, topic, "invoices")
        newest = topic.newest()
        self._paid: int = newest["pay_index"] if newest else 0

    def check(self) -> None:
        super().check()
        if self._last == 0:
            self._paid = 0

    def look(self, version: str, seconds: int = _PAUSE) -> None:
        """Write those that are paid within some seconds. Raises Fault."""
        while item := self._node.paid_invoice(self._paid, seconds):
            self._paid, self._last = item["pay_index"], item["updated_index"]
            body = {
                "payment_hash": item["payment_hash"],
                "amount": item["amount_received_msat"],
                "pay_index": self._paid,
            }
            self._write(item["payment_hash"], body, version, item["paid_at"], _SECOND)
            seconds = 0


class Payments(Changes):
    """The payments that arrived or failed, once nothing of them is on its way any more."""

    def __init__(self, node: Node, topic: Topic) -> None:
        super().__init__(node, topic, "sendpays")

    def look(self, version: str) -> None:
        for item in self._node.changed("listsendpays", "payments", self._last):
            self._last = item["updated_index"]
            parts = self._node.parts(item["payment_hash"], item["groupid"])
            # A change that comes later says more.
            if any(part["status"] == "pending" or part.get("updated_index", 0) > self._last for part in parts):
                continue
            arrived = [part for part in parts if part["status"] == "complete"]
            amounts = [part.get("amount_msat", 0) for part in arrived or [item]]
            body = {
                "outcome": "succeeded" if arrived else "failed",
                "payment_hash": item["payment_hash"],
                "amount": sum(amounts),
                "fee": sum(part["amount_sent_msat"] for part in arrived) - sum(amounts) if arrived else 0,
                "parts": len(arrived or parts),
                "created": moment(min(part["created_at"] for part in parts)),
            }
            self._write(item["payment_hash"], body, version, item.get("completed_at", item["created_at"]), _SECOND)


class Forwards(Changes):
    """The payments of others that went through the node."""

    def __init__(self, node: Node, topic: Topic) -> None:
        super().__init__(node, topic, "forwards")

    def look(self, version: str) -> None:
        for item in self._node.changed("listforwards", "forwards", self._last):
            self._last = item["updated_index"]
            if item["status"] != "settled":
                continue
            body = {
                "incoming": item["in_channel"],
                "outgoing": item["out_channel"],
                "amount": item["out_msat"],
                "fee": item["fee_msat"],
            }
            self._write(item["in_channel"], body, version, item["resolved_time"], _MILLISECOND)


def show(settings: Mapping[str, Any], broker: Broker) -> dict[str, list[str]]:
    """The open channels by the events, and by Core Lightning."""
    return show_channels("clightning", Node, settings, broker)


if __name__ == "__main__":
    run_node("clightning", Node, payment=Payments, forward=Forwards, channel=Channels, invoice=Invoices)
