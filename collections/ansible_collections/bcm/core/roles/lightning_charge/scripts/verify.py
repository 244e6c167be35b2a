# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that Lightning Charge makes an invoice at the node, reads it back, and lets in nobody without a token."""

from __future__ import annotations

import json
from typing import Any

from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, Waiting, http_request, prove

_AMOUNT = "1000"  # millisatoshi


class Charge:
    """Lightning Charge, as a client with a token calls it."""

    def __init__(self, place: Endpoint, token: str) -> None:
        self._place = place
        self._credentials = f"api-token:{token}"

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        """Status and body of an answer. Raises Fault if nothing answers."""
        text = "" if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"}
        return http_request(self._place, method, path, text, self._credentials, headers)

    def get(self, path: str) -> dict[str, Any]:
        """What it answers. Raises Fault unless that is what was asked for."""
        status, text = self.request("GET", path)
        if status != 200:
            raise Fault(f"it answers {path} with status {status}: {text[:200]}")
        return dict(json.loads(text))


def ask_node(stack: Stack, method: str, **params: Any) -> dict[str, Any]:
    """What the node itself says, asked with the rune of this stack. Raises Waiting."""
    status, text = http_request(
        stack.need("clightning", "rest"),
        "POST",
        f"/v1/{method}",
        json.dumps(params),
        headers={"Rune": stack.secret("clightning", "rest"), "Content-Type": "application/json"},
    )
    if status not in (200, 201):
        raise Waiting(f"clightning answers {method} with status {status}: {text[:200]}")
    return dict(json.loads(text))


def check_invoice(stack: Stack, charge: Charge) -> None:
    """Make an invoice, find it here and at the node, and delete it. Raises Fault."""
    asked = {"msatoshi": _AMOUNT, "description": "A test of Bitcoin Cache Machine", "expiry": 600}
    status, text = charge.request("POST", "/invoice", asked)
    if status != 201:
        raise Fault(f"it makes no invoice: status {status}, {text[:200]}")
    made = json.loads(text)
    path = f"/invoice/{made['id']}"
    try:
        found = charge.get(path)
        if (found["payreq"], found["status"], found["msatoshi"]) != (made["payreq"], "unpaid", _AMOUNT):
            raise Lasting(f"the invoice that it made is another one when it is read: {json.dumps(found)[:300]}")
        if not found["payreq"].startswith(stack.expected["prefix"]):
            raise Lasting(f"its invoice is for another chain: {found['payreq'][:20]}")
        known = [item["bolt11"] for item in ask_node(stack, "listinvoices", label=made["id"])["invoices"]]
        if known != [found["payreq"]]:
            raise Lasting(f"the node does not know the invoice that it made: {json.dumps(known)[:300]}")
    finally:
        status, text = charge.request("DELETE", path, {"status": "unpaid"})
    if status != 204:
        raise Fault(f"it does not delete an invoice: status {status}, {text[:200]}")


def look(stack: Stack) -> Report:
    place = stack.service("http")
    for token in ("", "another"):
        status, text = Charge(place, token).request("GET", "/info")
        if status != 401:
            raise Lasting(f"it answers a request without a token with status {status}: {text[:200]}")
    charge = Charge(place, stack.secrets["lightning-charge/token"])
    node, shown = ask_node(stack, "getinfo"), charge.get("/info")
    if shown["id"] != node["id"]:
        raise Lasting(f"it shows the node {shown['id']}, not {node['id']}")
    users = sorted(name for name, user in stack.bcm["consumers"].items() if "http" in user["services"])
    for name in users:
        Charge(place, stack.secrets[f"lightning-charge/http/{name}"]).get("/info")
    check_invoice(stack, charge)
    notes = [f"invoices at node {node['id']}", *([f"tokens for {', '.join(users)}"] if users else [])]
    return Report({"public_key": node["id"], "height": shown["blockheight"]}, notes)


prove(look)
