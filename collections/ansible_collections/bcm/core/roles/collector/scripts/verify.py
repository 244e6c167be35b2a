# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the newest events are about the newest block of bitcoind and electrs, and the channels of nodes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from bcm_guest.prove import Fault, Refused, Report, Stack, Waiting, electrum, http_request, json_rpc, prove

#: blocks that may come while it is looked at
_MOST = 10


def ask(source: str) -> tuple[Any, list[str]]:
    """What a program says of the newest event of its source, and warnings. Raises Fault."""
    command = ["python3", f"/usr/local/lib/collector_{source}.py", "show"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode:
        raise Fault(done.stderr.strip()[-300:])
    answer = json.loads(done.stdout)
    unfit = f"{answer['unfit']} events did not fit their schemas: `bcm events tail collector.unfit`"
    return answer["found"], [unfit] if answer["unfit"] else []


def look_at_bitcoind(stack: Stack) -> Report:
    rpc, credentials = stack.need("bitcoind", "rpc"), f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    try:
        best = json_rpc(rpc, "getblockchaininfo", credentials=credentials)["blocks"]
    except Fault as fault:
        raise Waiting(f"bitcoind does not answer: {fault}") from fault
    newest, warnings = ask("bitcoind")
    if newest is None:
        raise Fault("no event of bitcoind.block has been acknowledged")
    try:
        header = json_rpc(rpc, "getblockheader", [newest["block"]], credentials=credentials)
    except Refused as fault:
        raise Fault(f"the newest event is about a block that bitcoind does not have: {fault}") from fault
    if newest["change"] != "connected" or header["confirmations"] < 0 or best - header["height"] > _MOST:
        raise Fault(f"the newest event has height {newest['height']} ({newest['change']}), and bitcoind {best}")
    return Report({"height": newest["height"]}, [f"events up to block {newest['height']}"], warnings)


def look_at_electrs(stack: Stack) -> Report:
    try:
        (tip,) = electrum(stack.need("electrs", "electrum"), ("blockchain.headers.subscribe", []))
    except Fault:
        return Report(notes=["electrs is not at work yet"])
    newest, warnings = ask("electrs")
    if newest is None or abs(tip["height"] - newest["height"]) > _MOST:
        raise Fault(f"the newest event has height {newest and newest['height']}, and electrs {tip['height']}")
    notes = [f"events up to block {newest['height']} of electrs"]
    return Report({"electrs_height": newest["height"]}, notes, warnings)


def look_at_lnd(stack: Stack) -> Report:
    _status, state = http_request(stack.need("lnd", "rest"), path="/v1/state")
    if "SERVER_ACTIVE" not in state:
        return Report(notes=["lnd is not at work yet"])
    return compare_channels("lnd")


def look_at_clightning(_stack: Stack) -> Report:
    return compare_channels("clightning")


def compare_channels(node: str) -> Report:
    """Raises Fault if the newest event has other channels than the node."""
    channels, warnings = ask(node)
    if channels["written"] != channels["there"]:
        raise Fault(
            f"by the events, {node} has {len(channels['written'])} channels, and by {node} {len(channels['there'])}"
        )
    count = len(channels["there"])
    return Report({f"{node}_channels": count}, [f"channels of {node}: {count}"], warnings)


SOURCES = {
    "bitcoind": look_at_bitcoind,
    "clightning": look_at_clightning,
    "electrs": look_at_electrs,
    "lnd": look_at_lnd,
}


def look(stack: Stack) -> Report:
    sources = [source for source in SOURCES if source in stack.bcm["needs"]]
    if not sources:
        return Report(notes=["there is no stack whose events it collects"])
    reports = [SOURCES[source](stack) for source in sources]
    warnings = list(dict.fromkeys(warning for report in reports for warning in report.warnings))
    facts = {name: fact for report in reports for name, fact in report.facts.items()}
    return Report(facts, [note for report in reports for note in report.notes], warnings)


prove(look)
