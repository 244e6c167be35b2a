# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What lightningd runs as bitcoin-cli: the part of it that its plugin bcli uses, in the same form.

The options are those of bitcoin-cli. The answer is printed as bitcoind writes it, so that no amount is rounded; the
exit status of an error is its code, and 1 if bitcoind does not answer.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
import time

#: RPC_IN_WARMUP
WARMING_UP = -28
#: Which arguments are no texts.
NUMBERS = {
    "estimatesmartfee": {0},
    "getblock": {1},
    "getblockfrompeer": {1},
    "getblockhash": {0},
    "gettxout": {1},
    "sendrawtransaction": {1},
}
_INTERVAL = 0.5  # seconds


def call(options: dict[str, str], password: str, method: str, arguments: list[str]) -> str:
    """The answer of bitcoind, as it writes it. Raises OSError and HTTPException if it does not answer."""
    numbers = NUMBERS.get(method, set())
    params = [json.loads(item) if place in numbers else item for place, item in enumerate(arguments)]
    credentials = base64.b64encode(f"{options['rpcuser']}:{password}".encode()).decode()
    timeout = float(options.get("rpcclienttimeout", "900"))
    connection = http.client.HTTPConnection(options["rpcconnect"], int(options["rpcport"]), timeout=timeout)
    try:
        body = json.dumps({"id": 1, "method": method, "params": params})
        connection.request("POST", "/", body, {"Authorization": f"Basic {credentials}"})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if not text:
        raise http.client.HTTPException(f"status {answer.status}")
    return text


def result_of(text: str) -> tuple[int, str]:
    """Exit status and output of an answer."""
    answer = json.loads(text)
    if error := answer.get("error"):
        return abs(error["code"]), f"error code: {error['code']}\nerror message:\n{error['message']}"
    result = answer["result"]
    if result is None or isinstance(result, str):
        return 0, result or ""
    # What a parser makes of 0.00001 is not what it was.
    start = text.index('"result":') + len('"result":')
    start += len(text[start:]) - len(text[start:].lstrip())
    return 0, text[start : json.JSONDecoder().raw_decode(text, start)[1]]


def main(words: list[str]) -> int:
    options: dict[str, str] = {}
    while words and words[0].startswith("-"):
        name, _is, value = words.pop(0).lstrip("-").partition("=")
        options[name] = value
    password = sys.stdin.readline().rstrip("\n") if "stdinrpcpass" in options else ""
    method, *arguments = words
    if "stdin" in options:
        arguments += sys.stdin.read().splitlines()
    end = time.monotonic() + (float(options.get("rpcwaittimeout", "0")) if "rpcwait" in options else 0)
    while True:
        try:
            status, output = result_of(call(options, password, method, arguments))
        except (OSError, http.client.HTTPException) as error:
            status, output = 1, f"error: Could not connect to the server: {error!r}"
        if status not in (1, abs(WARMING_UP)) or time.monotonic() > end:
            break
        time.sleep(_INTERVAL)
    print(output)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
