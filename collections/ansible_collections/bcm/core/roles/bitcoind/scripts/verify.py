# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that bitcoind is on its chain, behind Tor, and lets each user make only the calls it may make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, json_rpc, prove
from bcm_guest.rpc_users import faults_of_users


def cookie() -> str:
    found = sorted(Path("/var/lib/bitcoind").glob("**/.cookie"))
    if not found:
        raise Fault("it has not written its cookie")
    return found[0].read_text(encoding="ascii")


def faults_of_network(stack: Stack, network: dict[str, Any]) -> Iterator[str]:
    expected, proxy = stack.expected, str(stack.need("tor", "socks"))
    for net in network["networks"]:
        # Connections that an exception allows without Tor are limited to its destination by the network.
        direct = stack.bcm["exceptions"] and net["name"] in ("ipv4", "ipv6")
        if net["reachable"] and net["proxy"] != proxy and not direct:
            yield f"{net['name']} is reachable past the proxy, through \"{net['proxy']}\""
        if net["reachable"] and expected["networks"] and net["name"] not in expected["networks"]:
            yield f"{net['name']} is reachable, and only {', '.join(expected['networks'])} should be"
    announced = [local["address"] for local in network["localaddresses"]]
    yield from (f"it announces the address {address} to its peers" for address in announced
                if address != expected["onion"])  # fmt: skip
    if expected["onion"] and "onion" in (expected["networks"] or ["onion"]) and expected["onion"] not in announced:
        yield f"it does not announce its onion address {expected['onion']} to its peers"


def look(stack: Stack) -> Report:
    rpc, operator = Endpoint("127.0.0.1", stack.service("rpc").port), cookie()
    chain = json_rpc(rpc, "getblockchaininfo", credentials=operator)
    network = json_rpc(rpc, "getnetworkinfo", credentials=operator)
    faults = [*faults_of_network(stack, network), *faults_of_users(stack)]
    if chain["chain"] != stack.expected["chain"]:
        faults.append(f"it is on chain {chain['chain']}, not {stack.expected['chain']}")
    if chain["pruned"] != stack.expected["pruned"]:
        faults.append("it prunes its blocks" if chain["pruned"] else "it does not prune its blocks")
    if faults:
        raise Lasting("; ".join(faults))
    notes = [f"height {chain['blocks']}"]
    if chain["initialblockdownload"]:
        notes.append(f"downloading blocks, {100 * chain['verificationprogress']:.1f} % done")
    warnings = chain["warnings"] if isinstance(chain["warnings"], list) else [chain["warnings"]]
    return Report({"height": chain["blocks"]}, notes, [text for text in warnings if text])


prove(look)
