# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the newest event is about the newest block of bitcoind."""

from __future__ import annotations

import json
import subprocess

from bcm_guest.prove import Fault, Refused, Report, Stack, Waiting, json_rpc, prove

#: blocks that may come while it is looked at
_MOST = 10


def read_newest() -> dict[str, object]:
    """The newest event of the broker. Raises Fault."""
    command = ["python3", "/usr/local/lib/collector_bitcoind.py", "newest"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode:
        raise Fault(done.stderr.strip()[-300:])
    newest = json.loads(done.stdout)
    if newest is None:
        raise Fault("no event of bitcoind.block has been acknowledged")
    return newest


def look(stack: Stack) -> Report:
    if "bitcoind" not in stack.bcm["needs"]:
        return Report(notes=["there is no stack whose events it collects"])
    rpc, credentials = stack.need("bitcoind", "rpc"), f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    try:
        best = json_rpc(rpc, "getblockchaininfo", credentials=credentials)["blocks"]
    except Fault as fault:
        raise Waiting(f"bitcoind does not answer: {fault}") from fault
    newest = read_newest()
    try:
        header = json_rpc(rpc, "getblockheader", [newest["block"]], credentials=credentials)
    except Refused as fault:
        raise Fault(f"the newest event is about a block that bitcoind does not have: {fault}") from fault
    if newest["change"] != "connected" or header["confirmations"] < 0 or best - header["height"] > _MOST:
        raise Fault(f"the newest event has height {newest['height']} ({newest['change']}), and bitcoind {best}")
    return Report({"height": newest["height"]}, [f"events up to block {newest['height']}"])


prove(look)
