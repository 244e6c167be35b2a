# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that NBXplorer has read every block that bitcoind has, and answers only the stacks that use it."""

from __future__ import annotations

import json
from typing import Any

from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, Waiting, http_request, json_rpc, prove

_STATUS = "/v1/cryptos/btc/status"
_STATUS_OF_LIQUID = "/v1/cryptos/lbtc/status"


def read_status(place: Endpoint, credentials: str = "", path: str = _STATUS) -> dict[str, Any]:
    """What it says of itself and of bitcoind, or of Elements. Raises Fault."""
    status, text = http_request(place, path=path, credentials=credentials)
    if status != 200:
        raise Fault(f"it answers with status {status}: {text[:200]}")
    return dict(json.loads(text))


def check_access(stack: Stack) -> None:
    """Check that it answers those that have a cookie, and no others. Raises Fault."""
    place = stack.service("http")
    for cookie in ("", "__cookie__:", f"__cookie__:{'0' * 64}"):
        status, _text = http_request(place, path=_STATUS, credentials=cookie)
        if status != 401:
            raise Lasting(f"it answers a request without a stack's cookie with status {status}")
    for name, consumer in stack.bcm["consumers"].items():
        if "http" in consumer["services"]:
            read_status(place, f"__cookie__:{stack.secrets[f'{stack.name}/http/{name}']}")


def check_peer(stack: Stack) -> None:
    """Check that bitcoind has its connection, and never ends it. Raises Fault."""
    credentials = f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    peers = json_rpc(stack.need("bitcoind", "rpc"), "getpeerinfo", credentials=credentials)
    own = [peer for peer in peers if peer["subver"].strip("/").startswith("NBXplorer")]
    if not own:
        raise Fault("bitcoind has no connection from it")
    if "noban" not in own[0]["permissions"]:
        raise Lasting("bitcoind may ban it: its address is not in bitcoind's whitelist")


def look_at_liquid(stack: Stack, place: Endpoint) -> tuple[list[str], list[str]]:
    """Notes and warnings of the chain of Elements, if that is there. Raises Fault."""
    if "liquid" not in stack.bcm["needs"]:
        return [], []
    said = read_status(place, path=_STATUS_OF_LIQUID)
    if not said["isFullySynched"]:
        return [], ["liquid has not all blocks yet, or nbxplorer has not read them: its payments are seen later"]
    return [f"height {said['syncHeight']} of Liquid"], []


def look(stack: Stack) -> Report:
    place = Endpoint("127.0.0.1", int(stack.expected["port"]))
    said = read_status(place)
    credentials = f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    chain = json_rpc(stack.need("bitcoind", "rpc"), "getblockchaininfo", credentials=credentials)
    check_access(stack)
    check_peer(stack)
    height = said.get("syncHeight")
    if chain["initialblockdownload"] or chain["headers"] - chain["blocks"] > 6:
        raise Waiting(f"bitcoind has {chain['blocks']} of {chain['headers']} blocks: it waits for the rest")
    if not said["isFullySynched"] or height is None:
        raise Fault(f"it is not synced: it has read up to {height} of {chain['blocks']} blocks")
    # bitcoind may have got a block since.
    if height < chain["blocks"]:
        raise Fault(f"its height is {height}, bitcoind's is {chain['blocks']}")
    notes, warnings = look_at_liquid(stack, place)
    return Report({"height": height, "version": said["version"]}, [f"height {height}", *notes], warnings)


prove(look)
