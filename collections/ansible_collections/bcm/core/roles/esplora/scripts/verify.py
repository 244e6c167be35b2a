# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that esplora shows its pages, and every block that bitcoind has."""

from __future__ import annotations

from bcm_guest.prove import Fault, Report, Stack, Waiting, http_request, json_rpc, prove


def look(stack: Stack) -> Report:
    credentials = f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    chain = json_rpc(stack.need("bitcoind", "rpc"), "getblockchaininfo", credentials=credentials)
    place, path = stack.service("http"), stack.expected["path"]
    status, text = http_request(place, path=path)
    if status != 200 or "Explorer</title>" not in text:
        raise Fault(f"its page is not there: status {status}")
    status, text = http_request(place, path=f"{path}api/blocks/tip/height")
    if status != 200:
        raise Waiting(f"it answers nothing before it has an index of the {chain['headers']} blocks of bitcoind")
    if int(text) < chain["blocks"]:
        raise Fault(f"its height is {text}, bitcoind's is {chain['blocks']}")
    return Report({"height": int(text)}, [f"height {text}"])


prove(look)
