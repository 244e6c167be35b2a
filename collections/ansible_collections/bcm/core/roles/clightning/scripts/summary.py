# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print what `bcm lightning status` shows of this node; amounts are in satoshi."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: what Core Lightning calls the states of a channel -> what is shown
STATES = {
    "CHANNELD_NORMAL": "active",
    "CHANNELD_AWAITING_SPLICE": "active",
    "OPENINGD": "opening",
    "CHANNELD_AWAITING_LOCKIN": "opening",
    "DUALOPEND_OPEN_INIT": "opening",
    "DUALOPEND_OPEN_COMMIT_READY": "opening",
    "DUALOPEND_OPEN_COMMITTED": "opening",
    "DUALOPEND_AWAITING_LOCKIN": "opening",
    "CHANNELD_SHUTTING_DOWN": "closing",
    "CLOSINGD_SIGEXCHANGE": "closing",
    "CLOSINGD_COMPLETE": "closing",
    "AWAITING_UNILATERAL": "force closing",
    "FUNDING_SPEND_SEEN": "force closing",
}


class NoAnswer(Exception):
    """lightning-cli failed; the message is what it said."""


def call(method: str) -> dict[str, Any]:
    """Answer of a command. Raises NoAnswer."""
    try:
        done = subprocess.run(["lightning-cli", method], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"lightning-cli {method} got no answer") from None
    if done.returncode:
        raise NoAnswer(done.stderr.strip() or f"lightning-cli {method} ended with {done.returncode}")
    return dict(json.loads(done.stdout))


def channel(found: dict[str, Any]) -> dict[str, Any]:
    state = STATES.get(found["state"], "closed")
    capacity, local = found.get("total_msat", 0) // 1000, found.get("to_us_msat", 0) // 1000
    point = f"{found['funding_txid']}:{found['funding_outnum']}" if "funding_txid" in found else ""
    return {
        "peer": found["peer_id"],
        "public_key": found["peer_id"],
        "state": "inactive" if state == "active" and not found["peer_connected"] else state,
        "capacity": capacity,
        "local": local,
        "remote": capacity - local,
        "point": point,
    }


def coins(outputs: list[dict[str, Any]], status: str) -> int:
    return sum(item["amount_msat"] for item in outputs if item["status"] == status) // 1000


def summarize() -> dict[str, Any]:
    """Summarize the node. Raises NoAnswer if it should answer and does not."""
    try:
        info = call("getinfo")
    except NoAnswer:
        return {"state": "does not answer: it is starting, or has no wallet", "addresses": [], "channels": []}
    outputs = call("listfunds")["outputs"]
    channels = [channel(found) for found in call("listpeerchannels")["channels"] if found["state"] != "ONCHAIN"]
    return {
        "state": "works",
        "addresses": [f"{info['id']}@{item['address']}:{item['port']}" for item in info.get("address", [])],
        "channels": channels,
        "alias": info["alias"],
        "public_key": info["id"],
        "height": info["blockheight"],
        "synced_to_chain": "warning_bitcoind_sync" not in info and "warning_lightningd_sync" not in info,
        "peers": info["num_peers"],
        "on_chain": coins(outputs, "confirmed"),
        "on_chain_unconfirmed": coins(outputs, "unconfirmed"),
        "in_channels": sum(item["local"] for item in channels if item["state"] in ("active", "inactive")),
    }


def main() -> None:
    try:
        summary = summarize()
    except NoAnswer as error:
        raise SystemExit(f"clightning: {error}") from error
    json.dump(summary, sys.stdout)


if __name__ == "__main__":
    main()
