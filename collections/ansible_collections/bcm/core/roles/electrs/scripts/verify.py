# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: prove that electrs has indexed every block that bitcoind has."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import sys
import time
from typing import Any

# the roots of the data center
TRUST = "/etc/bcm/trust/ca-certificates.crt"


class Fault(Exception):
    """What keeps electrs from being as high as bitcoind, for people."""


def chain(expected: dict[str, Any]) -> dict[str, Any]:
    host, port = expected["bitcoind"]
    credentials = base64.b64encode(f"electrs:{expected['password']}".encode()).decode()
    try:
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        request = json.dumps({"method": "getblockchaininfo", "params": []})
        connection.request("POST", "/", request, {"Authorization": f"Basic {credentials}"})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Fault(f"bitcoind does not answer at {host}:{port}: {error}") from error
    if answer.status != 200:
        raise Fault(f"bitcoind answers at {host}:{port} with status {answer.status}")
    result: dict[str, Any] = json.loads(body)["result"]
    return result


def electrum(expected: dict[str, Any], *calls: tuple[str, list[Any]]) -> list[Any]:
    """Results of calls of the Electrum protocol."""
    host, port = expected["electrum"]
    results = []
    try:
        trusting = ssl.create_default_context(cafile=TRUST)
        with (
            socket.create_connection((host, int(port)), 10) as plain,
            trusting.wrap_socket(plain, server_hostname=host) as connection,
        ):
            stream = connection.makefile("rw")
            for method, params in calls:
                stream.write(json.dumps({"id": 0, "method": method, "params": params}) + "\n")
                stream.flush()
                answer = json.loads(stream.readline() or '{"error": "it hung up"}')
                if "result" not in answer:
                    raise Fault(f"it answers {method} with {answer['error']}")
                results.append(answer["result"])
    except OSError as error:
        raise Fault(f"it does not answer at {host}:{port}: {error}") from error
    return results


def look(expected: dict[str, Any]) -> tuple[dict[str, Any], str | None]:
    """What to report, and the fault, if any."""
    there = chain(expected)
    if there["initialblockdownload"]:
        # electrs serves nobody before bitcoind is done, which takes days on a big chain.
        done = f"{100 * there['verificationprogress']:.1f} %"
        return {"notes": [], "warnings": [f"it waits for bitcoind, which has {done} of its blocks"]}, None
    _version, tip = electrum(expected, ("server.version", ["verify", "1.4"]), ("blockchain.headers.subscribe", []))
    state = {"notes": [f"height {tip['height']}"], "warnings": []}
    if tip["height"] != there["blocks"]:
        return state, f"its height is {tip['height']}, bitcoind's is {there['blocks']}"
    return state, None


def main() -> None:
    expected = json.load(sys.stdin)
    deadline = time.monotonic() + expected["deadline"]
    while True:
        try:
            state, fault = look(expected)
        except Fault as error:
            state, fault = {}, str(error)
        if fault is None:
            break
        if time.monotonic() > deadline:
            sys.exit(f"electrs: {fault}")
        time.sleep(0.2)
    print(json.dumps(state))


main()
