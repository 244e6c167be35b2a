# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""hello.py ADDRESS PORT ELECTRUM_ADDRESS ELECTRUM_PORT: a web page that says how high the chain is."""

from __future__ import annotations

import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from bcm_guest.prove import Endpoint, Fault, electrum

ADDRESS, PORT, ELECTRUM_ADDRESS, ELECTRUM_PORT = sys.argv[1:]
ELECTRUM = Endpoint(ELECTRUM_ADDRESS, int(ELECTRUM_PORT), tls=True)


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        try:
            (tip,) = electrum(ELECTRUM, ("blockchain.headers.subscribe", []))
            status, text = 200, f"{os.environ['HELLO_GREETING']}, the chain is {tip['height']} blocks high.\n"
        except Fault as fault:
            status, text = 503, f"The Electrum server does not tell: {fault}\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer((ADDRESS, int(PORT)), Page).serve_forever()
