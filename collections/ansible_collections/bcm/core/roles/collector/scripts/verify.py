# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the newest events are about the newest block of bitcoind and electrs, the channels of nodes, and logs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from bcm_guest.prove import Fault, Refused, Report, Stack, Waiting, electrum, http_request, json_rpc, prove

#: blocks that may come while it is looked at
_MOST = 10


def ask(sources: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """What the programs of sources say of their newest events, by source, and warnings. Raises Fault."""
    command = ["python3", "/usr/local/lib/collector_show.py", *sources]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode:
        raise Fault(done.stderr.strip()[-300:])
    answer = json.loads(done.stdout)
    unfit = f"{answer['unfit']} events did not fit their schemas: `bcm events tail collector.unfit`"
    return answer["found"], [unfit] if answer["unfit"] else []


def look_at_bitcoind(stack: Stack, newest: Any) -> Report:
    rpc, credentials = stack.need("bitcoind", "rpc"), f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    try:
        best = json_rpc(rpc, "getblockchaininfo", credentials=credentials)["blocks"]
    except Fault as fault:
        raise Waiting(f"bitcoind does not answer: {fault}") from fault
    if newest is None:
        raise Fault("no event of bitcoind.block has been acknowledged")
    try:
        header = json_rpc(rpc, "getblockheader", [newest["block"]], credentials=credentials)
    except Refused as fault:
        raise Fault(f"the newest event is about a block that bitcoind does not have: {fault}") from fault
    if newest["change"] != "connected" or header["confirmations"] < 0 or best - header["height"] > _MOST:
        raise Fault(f"the newest event has height {newest['height']} ({newest['change']}), and bitcoind {best}")
    return Report({"height": newest["height"]}, [f"events up to block {newest['height']}"])


def look_at_electrs(stack: Stack, newest: Any) -> Report:
    try:
        (tip,) = electrum(stack.need("electrs", "electrum"), ("blockchain.headers.subscribe", []))
    except Fault:
        return Report(notes=["electrs is not at work yet"])
    if newest is None or abs(tip["height"] - newest["height"]) > _MOST:
        raise Fault(f"the newest event has height {newest and newest['height']}, and electrs {tip['height']}")
    notes = [f"events up to block {newest['height']} of electrs"]
    return Report({"electrs_height": newest["height"]}, notes)


def look_at_lnd(_stack: Stack, channels: Any) -> Report:
    return compare_channels("lnd", channels)


def look_at_clightning(_stack: Stack, channels: Any) -> Report:
    return compare_channels("clightning", channels)


def compare_channels(node: str, channels: Any) -> Report:
    """Raises Fault if the newest event has other channels than the node."""
    if channels["written"] != channels["there"]:
        raise Fault(
            f"by the events, {node} has {len(channels['written'])} channels, and by {node} {len(channels['there'])}"
        )
    count = len(channels["there"])
    return Report({f"{node}_channels": count}, [f"channels of {node}: {count}"])


def look_at_journal(stack: Stack, newest: Any) -> Report:
    """Its own one has what systemd says of its units."""
    if newest is None:
        raise Fault("no event of a journal has been acknowledged")
    return Report(notes=[f"journals of {len(stack.bcm['journals'])} instances"])


SOURCES = {
    "bitcoind": look_at_bitcoind,
    "clightning": look_at_clightning,
    "electrs": look_at_electrs,
    "lnd": look_at_lnd,
    "journal": look_at_journal,
}


def answers(stack: Stack, source: str) -> bool:
    """Whether a source can be asked for what its program shows: lnd cannot before its wallet is there."""
    return source != "lnd" or "SERVER_ACTIVE" in http_request(stack.need("lnd", "rest"), path="/v1/state")[1]


def look(stack: Stack) -> Report:
    sources = [source for source in SOURCES if source in stack.bcm["needs"] or source == "journal"]
    asked = [source for source in sources if answers(stack, source)]
    notes = [f"{source} is not at work yet" for source in sources if source not in asked]
    found, warnings = ask(asked)
    reports = [SOURCES[source](stack, found[source]) for source in asked]
    facts = {name: fact for report in reports for name, fact in report.facts.items()}
    return Report(facts, [*(note for report in reports for note in report.notes), *notes], warnings)


prove(look)
