# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: prove that bitcoind is on its chain, behind Tor, and lets each user call what it may."""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time
from pathlib import Path
from typing import Any


class Refused(Exception):
    """bitcoind answered, with another status than 200."""


def call(port: int, credentials: str, method: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
    connection.request("POST", "/", json.dumps({"method": method, "params": []}), headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise Refused(str(answer.status))
    return json.loads(body)["result"]


def cookie() -> str:
    found = sorted(Path("/var/lib/bitcoind").glob("**/.cookie"))
    if not found:
        raise OSError("it has not written its cookie")
    return found[0].read_text(encoding="ascii")


def faults_of_network(expected: dict[str, Any], network: dict[str, Any]) -> list[str]:
    faults = []
    for net in network["networks"]:
        direct = expected["direct"] and net["name"] in ("ipv4", "ipv6")
        if net["reachable"] and net["proxy"] != expected["proxy"] and not direct:
            faults.append(f"{net['name']} is reachable past the proxy, through \"{net['proxy']}\"")
        if net["reachable"] and expected["networks"] and net["name"] not in expected["networks"]:
            faults.append(f"{net['name']} is reachable, and only {', '.join(expected['networks'])} should be")
    told = [local["address"] for local in network["localaddresses"]]
    faults += [f"it tells its peers the address {address}" for address in told if address != expected["onion"]]
    if expected["onion"] and "onion" in (expected["networks"] or ["onion"]) and expected["onion"] not in told:
        faults.append(f"it does not tell its peers its onion address {expected['onion']}")
    return faults


def faults_of_users(expected: dict[str, Any]) -> list[str]:
    faults = []
    for user, password in expected["passwords"].items():
        # Harmless even if it were allowed.
        forbidden = next(name for name in ("uptime", "getrpcinfo", "help") if name not in expected["calls"][user])
        try:
            call(expected["port"], f"{user}:{password}", forbidden)
            faults.append(f"user {user} may call {forbidden}, which it did not ask for")
        except Refused as refused:
            # 403 means that the password was right and the call was not; 401, that the password was wrong.
            if str(refused) != "403":
                faults.append(f"user {user} cannot log in (status {refused})")
    return faults


def look(expected: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    operator = cookie()
    chain = call(expected["port"], operator, "getblockchaininfo")
    network = call(expected["port"], operator, "getnetworkinfo")
    faults = faults_of_network(expected, network) + faults_of_users(expected)
    if chain["chain"] != expected["chain"]:
        faults.append(f"it is on chain {chain['chain']}, not {expected['chain']}")
    if chain["pruned"] != expected["pruned"]:
        faults.append("it prunes its blocks" if chain["pruned"] else "it does not prune its blocks")
    notes = [f"height {chain['blocks']}"]
    if chain["initialblockdownload"]:
        notes.append(f"downloading blocks, {100 * chain['verificationprogress']:.1f} % done")
    return faults, {"notes": notes, "warnings": [text for text in _list(chain["warnings"]) if text]}


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def main() -> None:
    expected = json.load(sys.stdin)
    deadline = time.monotonic() + expected["deadline"]
    while True:
        try:
            faults, state = look(expected)
            break
        except (OSError, Refused, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                sys.exit(f"bitcoind does not answer: {error}")
            time.sleep(0.2)
    if faults:
        sys.exit("bitcoind: " + "; ".join(faults))
    print(json.dumps(state))


main()
