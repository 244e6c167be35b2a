# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that electrum is connected to its own server, to nothing else, and is as high as that."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from bcm_guest.connections import Connection, connections
from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, Waiting, electrum, json_rpc, prove


def strangers(stack: Stack, server: Endpoint, found: Iterable[Connection]) -> list[tuple[str, int]]:
    """The far ends of connections to anything but its server, and to who reads the journal of its instance."""
    journal = stack.bcm["journal"]
    reader = (journal["reader"], journal["port"]) if journal else None
    others = {(item.other, item.other_port) for item in found if (item.other, item.port) != reader}
    return sorted(others - {(server.address, server.port)})


def look(stack: Stack) -> Report:
    server = stack.need("electrs", "electrum")
    if others := strangers(stack, server, connections()):
        raise Lasting("it is connected to " + ", ".join(f"{address}:{port}" for address, port in others))
    try:
        (tip,) = electrum(server, ("blockchain.headers.subscribe", []))
    except Fault as fault:
        if stack.bcm["chain"] == "regtest":
            raise
        # While bitcoind still downloads blocks, this takes days.
        raise Waiting(f"its server {server} serves no blocks yet") from fault
    directory = Path(stack.expected["directory"])
    try:
        settings = json.loads((directory / "config").read_text(encoding="utf-8"))
        credentials = f"{settings['rpcuser']}:{settings['rpcpassword']}"
    except (OSError, KeyError, ValueError) as error:
        raise Fault(f"its configuration cannot be read: {error!r}") from error
    info = json_rpc(str(directory / "daemon_rpc_socket"), "getinfo", credentials=credentials)
    if info["server"] != server.address or info["auto_connect"]:
        raise Lasting(f"it follows {info['server']}, not {server.address} alone")
    if not info["connected"]:
        raise Fault(f"it is not connected to its server {server}")
    # It reports -1 while the chain has only the genesis block, which every wallet knows.
    height = max(info["blockchain_height"], 0)
    if height != tip["height"]:
        raise Fault(f"its height is {height}, its server's is {tip['height']}")
    return Report({"height": height}, [f"height {height}"])


prove(look)
