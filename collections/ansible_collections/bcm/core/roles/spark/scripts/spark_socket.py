# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The socket on which Spark finds Core Lightning: the calls that it makes, with the names of 2022.

Core Lightning has renamed amounts, which were numbers of millisatoshi and texts such as `1000msat`, has moved channels
out of `listpeers`, and has put `decode` in the place of `decodepay`. The changes are in its CHANGELOG.md.
"""

from __future__ import annotations

from typing import Any

from bcm_guest.lightning_socket import Call, NodeError, Params, serve

#: the calls, with the names of their parameters; `needs` in meta/stack.yml has those that the node answers
METHODS = {
    "close": ("id", "unilateraltimeout"),
    "connect": ("id", "host", "port"),
    "decode": ("string",),
    "decodepay": ("bolt11", "description"),
    "disconnect": ("id", "force"),
    "fundchannel": ("id", "amount", "feerate", "announce"),
    "getinfo": (),
    "invoice": ("amount_msat", "label", "description", "expiry"),
    "listconfigs": (),
    "listfunds": (),
    "listinvoices": ("label",),
    "listpays": ("bolt11", "payment_hash", "status"),
    "listpeers": ("id",),
    "listsendpays": ("bolt11", "payment_hash", "status"),
    "newaddr": ("addresstype",),
    "pay": ("bolt11", "amount_msat", "label"),
    "paystatus": ("bolt11",),
    "waitanyinvoice": ("lastpay_index", "timeout"),
}
_INVALID = -32602
#: today's name of an amount in millisatoshi -> its former one, and of how many millisatoshi that was
_FORMER = {
    "amount_msat": ("msatoshi", 1),
    "amount_received_msat": ("msatoshi_received", 1),
    "amount_sent_msat": ("msatoshi_sent", 1),
    "dust_limit_msat": ("dust_limit_satoshis", 1000),
    "fees_collected_msat": ("msatoshi_fees_collected", 1),
    "max_to_us_msat": ("msatoshi_to_us_max", 1),
    "min_to_us_msat": ("msatoshi_to_us_min", 1),
    "our_reserve_msat": ("our_channel_reserve_satoshis", 1000),
    "receivable_msat": ("receivable_msatoshi", 1),
    "spendable_msat": ("spendable_msatoshi", 1),
    "their_reserve_msat": ("their_channel_reserve_satoshis", 1000),
    "to_us_msat": ("msatoshi_to_us", 1),
    "total_msat": ("msatoshi_total", 1),
}


def with_former_names(value: Any) -> Any:
    """The same answer with the former names beside today's, and amounts in millisatoshi as texts."""
    if isinstance(value, list):
        return [with_former_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in value.items():
        if not (name.endswith("_msat") and isinstance(item, int)):
            found[name] = with_former_names(item)
            continue
        found[name] = f"{item}msat"
        if name in _FORMER:
            former, divisor = _FORMER[name]
            found[former] = item // divisor
    return found


async def list_configs(call: Call, _params: Params) -> Any:
    """The version, which is all that Spark looks at: no offers of BOLT 12, which are others than in 2022."""
    return {"# version": (await call("getinfo", {}))["version"], "experimental-offers": False}


async def get_info(call: Call, _params: Params) -> Any:
    """With an empty list of addresses if the node announces none."""
    return {"address": [], **await call("getinfo", {})}


async def decode_pay(call: Call, params: Params) -> Any:
    """What was asked as `decodepay`. Raises NodeError unless it is an invoice of BOLT 11."""
    found = await call("decode", {"string": params.get("bolt11", "")})
    if not found.get("valid") or found.get("type") != "bolt11 invoice":
        raise NodeError(_INVALID, f"Invalid bolt11: it is {found.get('type', 'unknown')}")
    return found


async def list_funds(call: Call, _params: Params) -> Any:
    """With the values of coins in satoshi."""
    found = await call("listfunds", {})
    coins = [{**coin, "value": coin["amount_msat"] // 1000} for coin in found["outputs"]]
    return {**found, "outputs": coins}


async def list_peers(call: Call, params: Params) -> Any:
    """The peers, each with its channels, whether it is there or not."""
    peers = {peer["id"]: {**peer, "channels": []} for peer in (await call("listpeers", params))["peers"]}
    for channel in (await call("listpeerchannels", params))["channels"]:
        key, connected = channel["peer_id"], channel["peer_connected"]
        peers.setdefault(key, {"id": key, "connected": connected, "channels": []})["channels"].append(channel)
    return {"peers": list(peers.values())}


async def close(call: Call, params: Params) -> Any:
    """With the one transaction that Spark expects, which is the last one."""
    found = await call("close", params)
    return {**({"txid": found["txids"][-1]} if found.get("txids") else {}), **found}


ANSWERS = {
    "close": close,
    "decodepay": decode_pay,
    "getinfo": get_info,
    "listconfigs": list_configs,
    "listfunds": list_funds,
    "listpeers": list_peers,
}

if __name__ == "__main__":
    serve(METHODS, ANSWERS, with_former_names)
