# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `bcm lightning status` shows of this node; amounts are in satoshi."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def lncli(command: str) -> dict[str, Any]:
    done = subprocess.run(["lncli", command], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise SystemExit(f"lnd: {done.stderr.strip() or f'lncli {command} ended with {done.returncode}'}")
    return dict(json.loads(done.stdout))


def channel(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "peer": found.get("peer_alias") or found["remote_pubkey"],
        "public_key": found["remote_pubkey"],
        "state": "active" if found["active"] else "inactive",
        "capacity": int(found["capacity"]),
        "local": int(found["local_balance"]),
        "remote": int(found["remote_balance"]),
        "point": found["channel_point"],
    }


def pending(state: str, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "peer": found["remote_node_pub"],
        "public_key": found["remote_node_pub"],
        "state": state,
        "capacity": int(found["capacity"]),
        "local": int(found["local_balance"]),
        "remote": int(found["remote_balance"]),
        "point": found["channel_point"],
    }


#: what lnd calls a channel that waits for transactions -> what it waits for
PENDING = {
    "pending_open_channels": "opening",
    "waiting_close_channels": "closing",
    "pending_force_closing_channels": "force closing",
}


def summary() -> dict[str, Any]:
    info, coins, waiting = lncli("getinfo"), lncli("walletbalance"), lncli("pendingchannels")
    channels = [channel(found) for found in lncli("listchannels")["channels"]]
    for key, state in PENDING.items():
        channels += [pending(state, found["channel"]) for found in waiting[key]]
    return {
        "alias": info["alias"],
        "public_key": info["identity_pubkey"],
        "addresses": info["uris"],
        "height": info["block_height"],
        "synced_to_chain": info["synced_to_chain"],
        "synced_to_graph": info["synced_to_graph"],
        "peers": info["num_peers"],
        "on_chain": int(coins["confirmed_balance"]),
        "on_chain_unconfirmed": int(coins["unconfirmed_balance"]),
        "in_channels": sum(item["local"] for item in channels if item["state"] in ("active", "inactive")),
        "channels": channels,
    }


json.dump(summary(), sys.stdout)
