# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is copied of a Core Lightning, and when. Of lnd, tests of the whole say that."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.channel_backups import Clightning
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Endpoint, Fault

RUNE = "rune-of-backups"
CHANNEL = {
    "state": "CHANNELD_NORMAL", "channel_id": "c1", "peer_id": "02" * 33, "funding_txid": "ab" * 32,
    "funding_outnum": 1, "total_msat": 1_000_000_000, "to_us_msat": 400_000_999, "in_payments_offered": 2,
    "out_payments_offered": 3,
}  # fmt: skip
OPENING = {"state": "OPENINGD", "peer_id": "03" * 33}
ON_CHAIN = {**CHANNEL, "state": "ONCHAIN", "channel_id": "c0"}
POINT = f"{'ab' * 32}:1"


class Clnrest(http.server.BaseHTTPRequestHandler):
    """Answers calls, and polls with packets; then it refuses. As Socket.IO, it reads no body without a type."""

    protocol_version = "HTTP/1.1"
    answers: dict[str, Any]
    polls: list[str]
    posted: list[str]

    def do_GET(self) -> None:
        if "sid=" not in self.path:
            self.reply(200, '0{"sid":"s1","upgrades":["websocket"],"pingInterval":25000}')
        elif self.polls:
            self.reply(200, self.polls.pop(0))
        else:
            self.reply(400, '{"code":1}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        method = self.path.removeprefix("/v1/")
        if self.headers["Rune"] != RUNE:
            self.reply(401, '{"message":"Invalid rune"}')
        elif method != self.path:
            self.reply(201, json.dumps(self.answers[method]))
        else:
            self.posted.append(body)
            self.reply(200, "ok")

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    Clnrest.answers = {
        "getinfo": {"id": "02" * 33},
        "listpeerchannels": {"channels": [CHANNEL, OPENING, ON_CHAIN]},
        "getemergencyrecoverdata": {"filedata": "00ff", "backed_up_channel_ids": ["c0", "c1"]},
    }
    Clnrest.polls, Clnrest.posted = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Clnrest) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def node(server: http.server.ThreadingHTTPServer, rune: str = RUNE) -> Clightning:
    return Clightning(Endpoint("127.0.0.1", server.server_port), rune)


def test_backup_is_of_channels_that_are_not_closed(server: http.server.ThreadingHTTPServer) -> None:
    backup = node(server).read()
    assert (backup.node, backup.points) == ("02" * 33, [POINT])
    assert base64.b64decode(backup.content) == b"\x00\xff"
    expected = {"peer": "", "public_key": "02" * 33, "capacity": 1_000_000, "local": 400_000, "payments": 5}
    assert node(server).channels()[POINT] == expected


def test_backup_that_lacks_a_channel_is_not_copied(server: http.server.ThreadingHTTPServer) -> None:
    Clnrest.answers["getemergencyrecoverdata"]["backed_up_channel_ids"] = ["c0"]
    with pytest.raises(Fault, match=f"its channel backup lacks {POINT}"):
        node(server).read()


def test_call_that_is_refused_is_a_fault(server: http.server.ThreadingHTTPServer) -> None:
    with pytest.raises(Fault, match="clightning answers getemergencyrecoverdata with status 401"):
        node(server, "another").read()


def heard(server: http.server.ThreadingHTTPServer, *polls: str) -> int:
    """How often it tells of a change at once."""
    Clnrest.polls = list(polls)
    called: list[int] = []
    own = threading.get_ident()
    with suppress(Fault):
        node(server).listen(lambda: called.append(threading.get_ident()))
    return called.count(own)


def test_change_of_a_channel_is_told(server: http.server.ThreadingHTTPServer) -> None:
    change = '42["message",{"channel_state_changed":{"new_state":"CHANNELD_NORMAL"}}]'
    block = '42["message",{"block_added":{"height":7}}]'
    assert heard(server, '40{"sid":"s2"}', f"{block}\x1e2", change) == 2
    assert Clnrest.posted == ["40", "3"]


def test_notifications_that_are_refused_are_a_fault(server: http.server.ThreadingHTTPServer) -> None:
    Clnrest.polls = ['44{"message":"Not authorized"}']
    with pytest.raises(Fault, match="clightning refuses its notifications"):
        node(server).listen(lambda: None)
