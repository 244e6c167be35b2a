# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""echo.py ADDRESS PORT: answer a POST with its body, if it has the token, and count such requests."""

import hmac
import sys
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

COUNT = Path("/var/lib/echo/count")
EXPECTED = "Basic " + b64encode(b"echo:" + Path("/etc/echo/token").read_bytes()).decode()


class Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        known = hmac.compare_digest(self.headers["Authorization"] or "", EXPECTED)
        if known:
            COUNT.write_text(str(int(COUNT.read_text()) + 1 if COUNT.exists() else 1))
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(body if known else b"")


HTTPServer((sys.argv[1], int(sys.argv[2])), Echo).serve_forever()
