# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that electrs has indexed every block that bitcoind has."""

from __future__ import annotations

from bcm_guest.prove import Fault, Report, Stack, electrum, http_request, json_rpc, prove


def look(stack: Stack) -> Report:
    credentials = f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    chain = json_rpc(stack.need("bitcoind", "rpc"), "getblockchaininfo", credentials=credentials)
    if chain["initialblockdownload"]:
        # electrs does not serve clients before bitcoind has all blocks, which takes days on a big chain.
        done = f"{100 * chain['verificationprogress']:.1f} %"
        return Report(warnings=[f"it waits for bitcoind, which has {done} of its blocks"])
    (tip,) = electrum(stack.service("electrum"), ("blockchain.headers.subscribe", []))
    if tip["height"] != chain["blocks"]:
        raise Fault(f"its height is {tip['height']}, bitcoind's is {chain['blocks']}")
    if "metrics" in stack.bcm["services"]:
        status, text = http_request(stack.service("metrics"), path="/metrics")
        if status != 200 or "electrs_" not in text:
            raise Fault(f"its metrics are not there: status {status}")
    return Report({"height": tip["height"]}, [f"height {tip['height']}"])


prove(look)
