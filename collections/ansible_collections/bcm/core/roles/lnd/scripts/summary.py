# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print what `bcm lightning status` shows of this node; amounts are in satoshi.

While lnd is not at work, that is its state, and what it knows already.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

#: state of lnd -> what it does
STATES = {
    "NON_EXISTING": "has no wallet",
    "LOCKED": "has a wallet that is locked",
    "UNLOCKED": "opens its wallet",
    "RPC_ACTIVE": "waits for blocks",
    "SERVER_ACTIVE": "works",
}
#: what lnd calls a channel that waits for transactions -> what it waits for
PENDING = {
    "pending_open_channels": "opening",
    "waiting_close_channels": "closing",
    "pending_force_closing_channels": "force closing",
}


class NoAnswer(Exception):
    """lncli failed; the message is what it said."""


def lncli(*words: str) -> dict[str, Any]:
    """Answer of a command. Raises NoAnswer."""
    command = " ".join(words)
    try:
        done = subprocess.run(["lncli", *words], capture_output=True, text=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"lncli {command} got no answer") from None
    if done.returncode:
        raise NoAnswer(done.stderr.strip() or f"lncli {command} ended with {done.returncode}")
    return dict(json.loads(done.stdout))


def describe_channel(found: Mapping[str, Any], state: str, key: str) -> dict[str, Any]:
    """Describe a channel of lnd, in which ``key`` is the public key of the other node."""
    return {
        "peer": found.get("peer_alias") or key,
        "public_key": key,
        "state": state,
        "capacity": int(found["capacity"]),
        "local": int(found["local_balance"]),
        "remote": int(found["remote_balance"]),
        "point": found["channel_point"],
    }


def describe_channels() -> list[dict[str, Any]]:
    """Describe all channels. Raises NoAnswer."""
    channels = [
        describe_channel(found, "active" if found["active"] else "inactive", found["remote_pubkey"])
        for found in lncli("listchannels")["channels"]
    ]
    waiting = lncli("pendingchannels")
    for key, state in PENDING.items():
        channels += [
            describe_channel(item["channel"], state, item["channel"]["remote_node_pub"]) for item in waiting[key]
        ]
    return channels


def describe_towers() -> list[str]:
    """Name the watchtowers that it uses, with the number of states that each has. Raises NoAnswer."""
    return [
        f"{tower['pubkey']}@{tower['addresses'][0]} "
        f"({sum(int(session['num_backups']) for session in tower['sessions'])} states)"
        for tower in lncli("wtclient", "towers", "--include_sessions")["towers"]
        if tower["active_session_candidate"]
    ]


def summarize() -> dict[str, Any]:
    """Summarize the node. Raises NoAnswer if it should answer and does not."""
    try:
        state = lncli("state")["state"]
    except NoAnswer:
        # Without a wallet, it does not listen where lncli asks.
        return {"state": "does not answer: it is starting, or has no wallet", "addresses": [], "channels": []}
    summary = {"state": STATES.get(state, state), "addresses": [], "channels": []}
    if state not in ("RPC_ACTIVE", "SERVER_ACTIVE"):
        return summary
    info = lncli("getinfo")
    summary |= {
        "alias": info["alias"],
        "public_key": info["identity_pubkey"],
        "addresses": info["uris"],
        "height": info["block_height"],
        "synced_to_chain": info["synced_to_chain"],
        "synced_to_graph": info["synced_to_graph"],
        "peers": info["num_peers"],
    }
    if state != "SERVER_ACTIVE":
        return summary
    coins, channels = lncli("walletbalance"), describe_channels()
    with contextlib.suppress(NoAnswer):  # it is none
        summary["watchtower"] = ", ".join(lncli("tower", "info")["uris"])
    with contextlib.suppress(NoAnswer):  # it uses none
        summary["guarded_by"] = describe_towers()
    return summary | {
        "on_chain": int(coins["confirmed_balance"]),
        "on_chain_unconfirmed": int(coins["unconfirmed_balance"]),
        "in_channels": sum(item["local"] for item in channels if item["state"] in ("active", "inactive")),
        "channels": channels,
    }


def main() -> None:
    try:
        summary = summarize()
    except NoAnswer as error:
        raise SystemExit(f"lnd: {error}") from error
    json.dump(summary, sys.stdout)


if __name__ == "__main__":
    main()
