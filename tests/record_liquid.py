# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record what the real programs of Elements answer in a data center on regtest, for their double.

``recorded`` asks a node that was just made. tests/e2e/test_liquid.py compares that with tests/recordings/liquid.json,
or writes it there if BCM_RECORD is set.
"""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.conftest import inside

CALLS = ("getblockchaininfo", "getblockcount", "getnetworkinfo", "getsidechaininfo")
_CONFIG = "/etc/elements/elements.conf"
# Prints status and body of the answer to a call.
_RPC = """
import base64, http.client, json, sys
cookie = open("/var/lib/liquid/elementsregtest/.cookie", "rb").read()
connection = http.client.HTTPConnection("127.0.0.1", 7040, timeout=30)
headers = {"Authorization": f"Basic {base64.b64encode(cookie).decode()}"}
connection.request("POST", "/", json.dumps({"method": sys.argv[1], "params": [], "id": 1}), headers)
answer = connection.getresponse()
print(json.dumps({"status": answer.status, "body": answer.read().decode()}))
"""
# A node beside the other one, whose bitcoind knows no such user; prints what it ends with.
_ALONE = """
mkdir -p /dev/shm/alone; sed 's/^mainchainrpcpassword=.*/mainchainrpcpassword=x/; s/7040/7050/; /^startupnotify/d' \
  /etc/elements/elements.conf >/dev/shm/alone/elements.conf
elementsd -conf=/dev/shm/alone/elements.conf -datadir=/dev/shm/alone 2>&1 >/dev/null
echo "status $?"; rm -r /dev/shm/alone
"""


def recorded(datacenter: str) -> dict[str, Any]:
    """All that the double answers with."""

    def run(*words: str) -> str:
        return inside(datacenter, "liquid", *words, deadline=120)

    def call(method: str) -> dict[str, Any]:
        return dict(json.loads(run("python3", "-c", _RPC, method)))

    lines = [line.partition("=") for line in run("cat", _CONFIG).splitlines()]
    config = {name: value for name, _equal, value in lines}
    message, _line, status = run("sh", "-c", _ALONE).rpartition("\n")
    assert status == "status 1"
    return {
        "version": {name: f"{run(name, '--version')}\n" for name in ("elementsd", "elements-cli")},
        "chain": config["chain"],
        "proxy": config["proxy"],
        "rpc": {method: call(method) for method in CALLS},
        "unknown": call("unheardof"),
        "without_bitcoind": message,
    }


def moved(recordings: dict[str, Any], proxy: str) -> dict[str, Any]:
    """The same recordings as they would be where tor has another address."""
    return dict(json.loads(json.dumps(recordings).replace(recordings["proxy"], proxy)))
