# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that lnd is as high as bitcoind, announces its onion address alone, and that all its channels are backed up."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bcm_guest.lnd import ACTIVE, CURRENT, WAITING, Lnd
from bcm_guest.prove import Fault, Lasting, Report, Stack, Waiting, http_request, json_rpc, prove
from bcm_guest.volume_files import read_file

#: Seconds without a block, while bitcoind has newer ones.
SILENCE = 20.0
#: Seconds after a start of bitcoind in which lnd, which tries every five, does not hear of a new block yet.
DEAF = 15.0
#: the time of the newest block that its wallet had -> when that was first seen
_first_seen: dict[int, float] = {}
#: what is reported -> its name in lnd's API
FACTS = {
    "height": "block_height", "public_key": "identity_pubkey", "peers": "num_peers",
    "synced_to_graph": "synced_to_graph",
}  # fmt: skip


def backed_up(lnd: Lnd, path: Path) -> int:
    """Check that the backup on the second volume has all channels, and return how many it has. Raises Fault."""
    try:
        content = base64.b64encode(read_file(path)).decode()
    except OSError as error:
        raise Fault(f"its channel backup {path} cannot be read: {error.strerror}") from error
    body = {"multi_chan_backup": {"multi_chan_backup": content}}
    saved = set(lnd.call("POST", "/v1/channels/backup/verify", body, macaroon="readonly")["chan_points"])
    channels = {item["channel_point"] for item in lnd.call("GET", "/v1/channels", macaroon="readonly")["channels"]}
    if missing := sorted(channels - saved):
        raise Fault(f"its channel backup {path} lacks {', '.join(missing)}")
    return len(saved)


def follows(newest: int, newest_of_bitcoind: int, *, is_synced: bool) -> bool:
    """Whether its wallet has the newest block.

    The height that lnd reports is what it asks bitcoind for; of new blocks, it hears by messages. Their times alone do
    not say it, for a block may be as old as the one before it or older (BIP 113); `synced_to_chain` is false, too, if
    the newest block is older than two hours.
    """
    return newest >= newest_of_bitcoind and (is_synced or time.time() - newest_of_bitcoind > CURRENT)


def check_messages(newest: int, newest_of_bitcoind: int, start_of_bitcoind: float) -> str:
    """A warning if it only missed a block that came as bitcoind started. Raises Waiting; Lasting if nothing comes."""
    since = _first_seen.setdefault(newest, time.monotonic())
    if time.monotonic() - since <= SILENCE:
        raise Waiting("it has not followed the chain to its tip yet")
    behind = f"its newest block is of {moment(newest)}, bitcoind's of {moment(newest_of_bitcoind)}"
    if newest_of_bitcoind < start_of_bitcoind + DEAF:
        return f"{behind}: it missed one when bitcoind started, and follows with the next; `bcm stack restart lnd` does"
    raise Lasting(
        f"{behind}, and no more come: bitcoind's messages about new blocks (ZMQ) do not reach it; "
        "`bcm stack restart bitcoind lnd`, and if that does not help, look into `bcm logs lnd`"
    )


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def graph(info: Mapping[str, Any]) -> str:
    """How far it is with the channels of others, without which it finds no route. Its peers tell it of them."""
    if info["synced_to_graph"]:
        return "graph: synced"
    return "graph: it asks its peers" if info["num_peers"] else "graph: it has no peer to ask"


def verify(stack: Stack) -> Report:
    lnd = Lnd(stack, stack.expected["directory"])
    bitcoind, credentials = stack.need("bitcoind", "rpc"), f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    chain = json_rpc(bitcoind, "getblockchaininfo", credentials=credentials)
    state = lnd.state()
    if state == WAITING and time.time() - chain["time"] > CURRENT:
        more = "; `bcm lightning fund` mines some" if stack.bcm["chain"] == "regtest" else ""
        return Report(warnings=[f"it waits for blocks: the newest that bitcoind has is older than two hours{more}"])
    if state == WAITING:
        raise Waiting("it searches the blocks that bitcoind has")
    if state != ACTIVE:
        raise Fault(f"it is not at work; its state is {state}")
    info = lnd.info()
    onion = stack.expected["onion"]
    expected = [f"{info['identity_pubkey']}@{onion}"] if onion else []
    if info["uris"] != expected:
        announced = ", ".join(uri.partition("@")[2] for uri in info["uris"]) or "nothing"
        raise Lasting(
            f"it announces {announced} to other nodes, not {onion or 'nothing'}; `bcm stack start lnd` corrects that"
        )
    if info["block_height"] != chain["blocks"]:
        raise Fault(f"its height is {info['block_height']}, bitcoind's is {chain['blocks']}")
    warnings = []
    newest = int(info["best_header_timestamp"])
    if not follows(newest, chain["time"], is_synced=info["synced_to_chain"]):
        start = time.time() - json_rpc(bitcoind, "uptime", credentials=credentials)
        warnings.append(check_messages(newest, chain["time"], start))
    elif not info["synced_to_chain"] and stack.bcm["chain"] != "regtest":
        raise Waiting("it has not followed the chain to its tip yet")
    if Path(stack.expected["restore"]).exists():
        raise Lasting("its restore is not done: start it again once it has found all blocks")
    http_request(stack.service("rest"), path="/v1/state")
    saved = backed_up(lnd, Path(stack.expected["backup"]))
    channels = {state: info[f"num_{state}_channels"] for state in ("active", "inactive", "pending")}
    facts = {name: info[key] for name, key in FACTS.items()} | {f"{state}_channels": n for state, n in channels.items()}
    counts = ", ".join(f"{number} {state}" for state, number in channels.items() if number) or "none"
    notes = [f"height {info['block_height']}", f"channels: {counts}; {saved} in the backup", graph(info)]
    return Report(facts | check_watchtowers(lnd, stack), notes, warnings)


def check_watchtowers(lnd: Lnd, stack: Stack) -> dict[str, Any]:
    """Check its own watchtower and those that it uses, and return them as facts. Raises Fault."""
    facts: dict[str, Any] = {}
    if address := stack.expected["tower"]:
        facts["watchtower"] = lnd.tower()
        if not facts["watchtower"].endswith(f"@{address}"):
            raise Fault(f"its watchtower is {facts['watchtower']}, not at {address}")
    if wanted := stack.expected["watchtowers"]:
        facts["watchtowers"] = lnd.watchtowers()
        if missing := sorted(set(wanted).difference(facts["watchtowers"])):
            raise Waiting(f"it does not use {', '.join(missing)} yet; `bcm stack start lnd` adds them")
    return facts


prove(verify)
