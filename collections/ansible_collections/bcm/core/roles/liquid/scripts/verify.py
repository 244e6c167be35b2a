# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that elementsd is on its chain, behind Tor, takes coins of our own bitcoind alone, and limits its users."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, json_rpc, prove
from bcm_guest.rpc_users import faults_of_users


def cookie(stack: Stack) -> str:
    path = Path(stack.bcm["volumes"]["data"]["path"], stack.expected["chain"], ".cookie")
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise Fault("it has not written its cookie") from error


def faults_of_network(stack: Stack, network: dict[str, Any]) -> Iterator[str]:
    proxy = str(stack.need("tor", "socks"))
    for net in network["networks"]:
        if net["reachable"] and net["proxy"] != proxy:
            yield f"{net['name']} is reachable past the proxy, through \"{net['proxy']}\""
    yield from (f"it announces the address {local['address']} to its peers" for local in network["localaddresses"])


def faults_of_peg(stack: Stack, sidechain: dict[str, Any]) -> Iterator[str]:
    """It has asked bitcoind when it started: otherwise, it would have ended."""
    if "bitcoind" not in stack.bcm["needs"]:
        return
    credentials = f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    first = json_rpc(stack.need("bitcoind", "rpc"), "getblockhash", [0], credentials=credentials)
    if sidechain["parent_blockhash"] != first:
        yield f"its coins come from the chain that begins at {sidechain['parent_blockhash']}, bitcoind's at {first}"


def look(stack: Stack) -> Report:
    rpc, operator = Endpoint("127.0.0.1", stack.service("rpc").port), cookie(stack)
    chain = json_rpc(rpc, "getblockchaininfo", credentials=operator)
    network = json_rpc(rpc, "getnetworkinfo", credentials=operator)
    sidechain = json_rpc(rpc, "getsidechaininfo", credentials=operator)
    faults = [*faults_of_network(stack, network), *faults_of_peg(stack, sidechain), *faults_of_users(stack)]
    if chain["chain"] != stack.expected["chain"]:
        faults.append(f"it is on chain {chain['chain']}, not {stack.expected['chain']}")
    if faults:
        raise Lasting("; ".join(faults))
    notes = [f"{chain['chain']} at height {chain['blocks']}"]
    if chain["initialblockdownload"]:
        notes.append(f"downloading blocks, {100 * chain['verificationprogress']:.1f} % done")
    return Report({"height": chain["blocks"]}, notes, [text for text in [chain["warnings"]] if text])


prove(look)
