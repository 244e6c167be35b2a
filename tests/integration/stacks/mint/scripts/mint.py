# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""mint.py ADDRESS PORT: tell each user what its token allows; the administrator reads and replaces all tokens."""

import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

TOKENS = Path("/var/lib/mint/tokens.json")
ADMIN = Path("/etc/mint/admin").read_text()


class Mint(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        tokens = json.loads(TOKENS.read_text()) if TOKENS.exists() else {}
        shown = self.headers["Token"]
        user = next((user for user in tokens.values() if user["token"] == shown), None)
        if shown == ADMIN:
            self.answer(200, tokens)
        elif user:
            self.answer(200, user["may"])
        else:
            self.answer(401, None)

    def do_PUT(self) -> None:
        tokens = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Token"] == ADMIN:
            TOKENS.write_text(json.dumps(tokens))
        self.answer(200 if self.headers["Token"] == ADMIN else 401, None)

    def answer(self, status: int, content: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())


server = HTTPServer((sys.argv[1], int(sys.argv[2])), Mint)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/etc/bcm/tls/certificate.pem", "/etc/bcm/tls/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
