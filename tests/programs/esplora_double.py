#!/usr/bin/python3
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of Esplora's server (electrs), written from the source of mempool/electrs (3.1.0-dev).

It takes the options of the real one and no others, reads its password where that does, makes the calls that it makes
when it starts, refuses what it refuses, and answers the part of its API that tells of blocks. Its index is a file with
the height that it has read.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_FOLDERS = {"mainnet": "", "testnet": "testnet3", "testnet4": "testnet4", "signet": "signet", "regtest": "regtest"}
_PER_PAGE = 10


class Bitcoind:
    """bitcoind, by RPC."""

    def __init__(self, place: str, cookie: Path) -> None:
        self._place = place
        login = base64.b64encode(cookie.read_bytes()).decode()
        self._headers = {"Authorization": f"Basic {login}"}

    def call(self, method: str, *params: Any) -> Any:
        connection = http.client.HTTPConnection(self._place, timeout=60)
        connection.request("POST", "/", json.dumps({"method": method, "params": params, "id": 1}), self._headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.client.OK:
            sys.exit(f"ERROR - server failed: {method}: status {answer.status}: {text.decode()}")
        return json.loads(text)["result"]

    def block(self, height: int) -> dict[str, Any]:
        """A block as the API shows it."""
        found = self.call("getblock", self.call("getblockhash", height))
        return {
            "id": found["hash"],
            "height": found["height"],
            "version": found["version"],
            "timestamp": found["time"],
            "tx_count": found["nTx"],
            "size": found["size"],
            "weight": found["weight"],
            "merkle_root": found["merkleroot"],
            "previousblockhash": found.get("previousblockhash"),
            "mediantime": found["mediantime"],
            "nonce": found["nonce"],
            "bits": int(found["bits"], 16),
            "difficulty": found["difficulty"],
        }


class Api(BaseHTTPRequestHandler):
    daemon: Bitcoind
    index: Path

    def do_GET(self) -> None:
        tip = self.daemon.call("getblockchaininfo")["blocks"]
        self.index.write_text(str(tip))
        match self.path.strip("/").split("/"):
            case ["blocks", "tip", "height"]:
                self.respond(200, str(tip))
            case ["blocks", "tip", "hash"]:
                self.respond(200, self.daemon.call("getbestblockhash"))
            case ["blocks"]:
                blocks = [self.daemon.block(height) for height in range(tip, max(-1, tip - _PER_PAGE), -1)]
                self.respond(200, json.dumps(blocks))
            case ["block-height", height] if height.isdigit() and int(height) <= tip:
                self.respond(200, self.daemon.call("getblockhash", int(height)))
            case ["block", block]:
                self.respond(200, json.dumps(self.daemon.block(self.daemon.call("getblockheader", block)["height"])))
            case _:
                self.respond(404, "endpoint does not exist")

    def respond(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if text[:1] in "[{" else "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--network", choices=_FOLDERS, default="mainnet")
    for name in ("db-dir", "daemon-dir", "daemon-rpc-addr", "http-addr", "electrum-rpc-addr", "monitoring-addr"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("jsonrpc-import", "lightmode", "address-search"):
        parser.add_argument(f"--{name}", action="store_true")
    options = parser.parse_args()
    print("double of Esplora's server: its index has no transactions", file=sys.stderr, flush=True)
    daemon = Bitcoind(options.daemon_rpc_addr, Path(options.daemon_dir, _FOLDERS[options.network], ".cookie"))
    daemon.call("getnetworkinfo")
    if daemon.call("getblockchaininfo")["pruned"]:
        sys.exit("ERROR - server failed: pruned node is not supported (use '-prune=0' bitcoind flag)")
    daemon.call("getmempoolinfo")
    daemon.call("getrawmempool")
    Api.daemon = daemon
    Api.index = Path(options.db_dir, _FOLDERS[options.network] or "mainnet", "newindex")
    Api.index.parent.mkdir(parents=True, exist_ok=True)
    host, _colon, port = options.http_addr.rpartition(":")
    ThreadingHTTPServer((host, int(port)), Api).serve_forever()


if __name__ == "__main__":
    main()
