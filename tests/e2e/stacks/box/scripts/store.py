# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of a store that speaks S3: a bucket in a folder, for requests that are signed with the keys below.

It checks signatures with the code that makes them, which a unit test proves with the examples of AWS.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bcm_guest import copies

FOLDER = Path("/var/lib/box/store")
KEYS = {"access_key": "AKIAEXAMPLE", "secret_key": "very-secret-key", "region": "us-east-1"}


class Store(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def content(self) -> bytes | None:
        """The body, if the signature fits it."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _mark, query = self.path.partition("?")
        moment = datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        signed = copies.signed_headers(KEYS, self.command, self.headers["Host"], path, query, body, moment)
        if self.headers["Authorization"] == signed["Authorization"]:
            return body
        self.answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
        return None

    def do_PUT(self) -> None:
        body = self.content()
        if body is not None:
            (FOLDER / Path(self.path).name).write_bytes(body)
            self.answer(200)

    def do_GET(self) -> None:
        if self.content() is None:
            return
        if "?" in self.path:
            keys = "".join(f"<Key>{path.name}</Key>" for path in FOLDER.iterdir())
            self.answer(200, f"<ListBucketResult>{keys}</ListBucketResult>".encode())
        else:
            self.answer(200, (FOLDER / Path(self.path).name).read_bytes())


FOLDER.mkdir(exist_ok=True)
ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Store).serve_forever()
