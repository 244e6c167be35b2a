# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that Spark accepts its password and no other, and shows coins, channels and payments of its node."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import Any

from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, Waiting, http_request, prove

USER = "bcm"


def access_key(password: str) -> str:
    """What its pages call it with, made of the password as in its src/auth.js."""
    digest = hmac.new(f"{USER}:{password}".encode(), b"access-key", hashlib.sha256).digest()
    return re.sub(r"[^A-Za-z0-9_]+", "", base64.b64encode(digest).decode())


class Spark:
    """Spark, as its pages call it."""

    def __init__(self, place: Endpoint, password: str) -> None:
        self._place = place
        self._headers = {"X-Access": access_key(password)}

    def call(self, method: str, *params: Any) -> Any:
        """What it answers. Raises Fault unless that is what was asked for."""
        status, text = self.request(method, *params)
        if status != 200:
            raise Fault(f"it answers {method} with status {status}: {text[:200]}")
        return json.loads(text)

    def request(self, method: str, *params: Any) -> tuple[int, str]:
        """Status and body of an answer. Raises Fault if nothing answers."""
        body = json.dumps({"method": method, "params": params})
        headers = {"Content-Type": "application/json", **self._headers}
        return http_request(self._place, "POST", "/rpc", body, headers=headers)


def ask_node(stack: Stack, method: str) -> dict[str, Any]:
    """What the node itself says, asked with the rune of this stack. Raises Waiting."""
    headers = {"Rune": stack.secret("clightning", "rest"), "Content-Type": "application/json"}
    status, text = http_request(stack.need("clightning", "rest"), "POST", f"/v1/{method}", "{}", headers=headers)
    if status not in (200, 201):
        raise Waiting(f"clightning answers {method} with status {status}: {text[:200]}")
    return dict(json.loads(text))


def check_login(place: Endpoint, password: str) -> None:
    """Check whom it lets in. Raises Fault."""
    for credentials in ("", f"{USER}:another"):
        status, text = http_request(place, credentials=credentials)
        if status != 401:
            raise Lasting(f"it answers a request without a login with status {status}: {text[:200]}")
    status, text = Spark(place, "another").request("getinfo")
    if status != 401:
        raise Lasting(f"it answers a call without a login with status {status}: {text[:200]}")
    status, text = http_request(place, credentials=f"{USER}:{password}")
    if status != 200 or "<title>Spark</title>" not in text:
        raise Fault(f"its page is not there: status {status}, {text[:200]}")


def look(stack: Stack) -> Report:
    place, password = stack.service("http"), stack.secrets["spark/password"]
    check_login(place, password)
    spark = Spark(place, password)
    node, shown = ask_node(stack, "getinfo"), spark.call("getinfo")
    if shown["id"] != node["id"]:
        raise Lasting(f"it shows the node {shown['id']}, not {node['id']}")
    if shown["blockheight"] < node["blockheight"]:
        raise Fault(f"it shows height {shown['blockheight']}, clightning is at {node['blockheight']}")
    # What its first page asks for, and adds up.
    coins = sum(coin["value"] for coin in spark.call("listfunds")["outputs"] if coin["status"] == "confirmed")
    channels = [channel for peer in spark.call("listpeers")["peers"] for channel in peer["channels"]]
    in_channels = sum(channel["msatoshi_to_us"] for channel in channels if channel["state"] == "CHANNELD_NORMAL")
    paid = [item["msatoshi_received"] for item in spark.call("_listinvoices")["invoices"]]
    spark.call("_listpays")
    facts = {"height": shown["blockheight"], "coins": coins, "channels": len(channels), "paid_invoices": len(paid)}
    notes = [f"clightning at height {shown['blockheight']}, {in_channels // 1000} sat in {len(channels)} channels"]
    return Report(facts, notes)


prove(look)
