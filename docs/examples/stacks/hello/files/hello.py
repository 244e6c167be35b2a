#!/usr/bin/env python3
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hello ADDRESS PORT ELECTRUM_ADDRESS ELECTRUM_PORT: a web page that says how high the chain is."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def height(server: tuple[str, int]) -> int:
    """Height of the chain, from an Electrum server. Raises OSError if it does not tell."""
    # The data center's root is all that the sandbox lets it trust.
    trusting = ssl.create_default_context()
    with (
        socket.create_connection(server, 5) as plain,
        trusting.wrap_socket(plain, server_hostname=server[0]) as connection,
    ):
        stream = connection.makefile("rw")
        for method, params in (("server.version", ["hello", "1.4"]), ("blockchain.headers.subscribe", [])):
            stream.write(json.dumps({"id": 0, "method": method, "params": params}) + "\n")
            stream.flush()
            answer = json.loads(stream.readline() or "{}")
        if "result" not in answer:
            raise OSError(f"{method}: {answer.get('error', 'no answer')}")
        return int(answer["result"]["height"])


class Page(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        try:
            status, text = 200, f"{self.server.greeting}, the chain is {height(self.server.electrum)} blocks high.\n"
        except OSError as error:
            status, text = 503, f"The Electrum server does not tell: {error}\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    greeting = os.environ.get("HELLO_GREETING", "Hello")
    electrum: tuple[str, int]


def main() -> None:
    address, port, electrum_address, electrum_port = sys.argv[1:]
    server = Server((address, int(port)), Page)
    server.electrum = (electrum_address, int(electrum_port))
    server.serve_forever()


if __name__ == "__main__":
    main()
