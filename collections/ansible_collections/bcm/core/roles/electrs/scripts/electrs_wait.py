# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance, before electrs starts: wait until bitcoind answers its user."""

from __future__ import annotations

import base64
import http.client
import json
import time
import tomllib


def answers(address: str, auth: str) -> str:
    """Empty if bitcoind answers; else why it does not."""
    headers = {"Authorization": f"Basic {base64.b64encode(auth.encode()).decode()}"}
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("POST", "/", json.dumps({"method": "getblockchaininfo", "params": []}), headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return str(error)
    finally:
        connection.close()
    # 500: it is still starting, which electrs itself waits for.
    return "" if status in (200, 500) else f"status {status}"


def main() -> None:
    with open("/etc/electrs/electrs.toml", "rb") as file:
        config = tomllib.load(file)
    told = ""
    while fault := answers(config["daemon_rpc_addr"], config["auth"]):
        if fault != told:
            print(f"Waiting for bitcoind at {config['daemon_rpc_addr']}: {fault}", flush=True)
        told = fault
        time.sleep(0.5)


main()
