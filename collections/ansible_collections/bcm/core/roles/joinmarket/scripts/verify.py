# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that JoinMarket answers over TLS, its wallet is open and followed by bitcoind, and nobody else gets in.

Directory servers are others': what does not answer there is a warning.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from bcm_guest.joinmarket import WALLET, Joinmarket, read_state
from bcm_guest.prove import Endpoint, Fault, Lasting, Report, Stack, http_request, json_rpc, prove

_PATIENCE = 30.0  # seconds for one directory server


def check_directory(tor: Endpoint, server: str) -> None:
    """Open a connection to a directory server through tor, or without it in this instance. Raises OSError."""
    host, _colon, port = server.rpartition(":")
    if not host.endswith(".onion"):
        socket.create_connection((host, int(port)), _PATIENCE).close()
        return
    address = bytes([len(host)]) + host.encode() + int(port).to_bytes(2, "big")
    with socket.create_connection((tor.address, tor.port), _PATIENCE) as connection:
        # RFC 1928, with a name and a password (RFC 1929), which give it a circuit of its own
        talk = {b"\5\1\2": b"\5\2", b"\1\6verify\6verify": b"\1\0", b"\5\1\0\3" + address: b"\5\0"}
        for message, wanted in talk.items():
            connection.sendall(message)
            answer = connection.recv(2)
            if answer != wanted:
                raise OSError(f"tor answers with {answer.hex() or 'nothing'}")


def reached(stack: Stack) -> str:
    """The first directory server that can be reached; empty if none can."""
    for server in stack.expected["directories"]:
        try:
            check_directory(stack.need("tor", "socks"), server)
        except OSError:
            continue
        return str(server)
    return ""


def check_wallet(stack: Stack, name: str) -> dict[str, Any]:
    """What bitcoind says of the wallet there. Raises Fault."""
    bitcoind, credentials = stack.need("bitcoind", "rpc"), f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    if name not in json_rpc(bitcoind, "listwallets", credentials=credentials):
        raise Fault(f"bitcoind does not follow its wallet {name}")
    body = json.dumps({"id": 0, "method": "getwalletinfo", "params": []})
    status, text = http_request(bitcoind, "POST", f"/wallet/{name}", body, credentials)
    if status != 200:
        raise Fault(f"bitcoind answers for its wallet {name} with status {status}")
    info = dict(json.loads(text)["result"])
    if info["private_keys_enabled"]:
        raise Lasting(f"its wallet {name} has private keys at bitcoind, where other stacks could use them")
    return info


def look(stack: Stack) -> Report:
    place = stack.service("http")
    joinmarket = Joinmarket(place, "")
    version, session = joinmarket.call("GET", "getinfo")["version"], joinmarket.call("GET", "session")
    if not session["session"] or session["wallet_name"] != WALLET:
        raise Fault("its wallet is locked: see `bcm logs joinmarket`; the next run opens it")
    status, text = http_request(place, path=f"/api/v1/wallet/{WALLET}/display")
    if status != 401:
        raise Lasting(f"it answers a request without a token with status {status}: {text[:200]}")
    state = read_state()
    check_wallet(stack, state["wallet"])
    notes, warnings = [f"wallet {state['wallet']}"], []
    server = reached(stack)
    if server:
        notes.append(f"directory server {server}")
    elif stack.expected["directories"]:
        warnings.append("joinmarket reaches none of its directory servers, so nobody is found for a coinjoin")
    else:
        notes.append("no directory server is set")
    if stack.expected["offer"] and session["maker_running"]:
        notes.append("maker is on")
    elif stack.expected["offer"]:
        warnings.append(
            "joinmarket is a maker, and offers nothing: without confirmed coins or a directory server it ends, and the "
            "next run starts it again; `bcm logs joinmarket` says why"
        )
    if state["bond"]:
        notes.append(f"coins sent to {state['bond']['address']} are locked until {state['bond']['until']}")
    return Report({"version": version, "wallet": state["wallet"], "maker": session["maker_running"]}, notes, warnings)


prove(look)
