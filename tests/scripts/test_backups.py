# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the role backups, with a server that answers as lnd does. tests/e2e has the real one."""

from __future__ import annotations

import base64
import hashlib
import json
import runpy
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import copies
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault, Waiting
from tests.support import COLLECTION

SCRIPTS = COLLECTION / "roles/backups/scripts"
KEY, POINT = "02" * 33, f"{'ab' * 32}:0"
CHANNEL = {"channel_point": POINT, "remote_pubkey": KEY, "peer_alias": "bob", "capacity": "9", "local_balance": "5"}


class Api(BaseHTTPRequestHandler):
    """The REST API of lnd, as far as a copy needs it."""

    protocol_version = "HTTP/1.1"
    state = "SERVER_ACTIVE"
    connections: set[tuple[str, int]]

    def do_GET(self) -> None:
        Api.connections.add(self.client_address)
        answers: dict[str, Any] = {
            "/v1/state": {"state": Api.state},
            "/v1/getinfo": {"identity_pubkey": KEY},
            "/v1/channels": {"channels": [CHANNEL]},
            "/v1/channels/pending": {"pending_open_channels": []},
            "/v1/channels/backup": {
                "multi_chan_backup": {
                    "chan_points": [{"funding_txid_str": POINT[:-2], "output_index": 0}],
                    "multi_chan_backup": base64.b64encode(b"backup").decode(),
                }
            },
        }
        body = json.dumps(answers[self.path.partition("?")[0]]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What copies the channel backups of that lnd, without targets; copies are not encrypted."""
    Api.state, Api.connections = "SERVER_ACTIVE", set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(copies, "COPIES", tmp_path / "copies")
    monkeypatch.setattr(copies, "STATE", tmp_path / "state.json")
    script = runpy.run_path(str(SCRIPTS / "backups_unit.py"))

    def encrypt(argv: list[str], **more: Any) -> None:
        Path(argv[-1]).write_bytes(more["input"])

    monkeypatch.setattr(subprocess, "run", encrypt)
    place = {"address": "127.0.0.1", "port": server.server_port, "tls": False, "credential": "00ff"}
    settings = {"datacenter": "a", "chain": "regtest", "recipient": "age1", "sources": {"lnd": place}, "targets": {}}
    yield script["Source"]("lnd", settings, script["State"](settings), [])
    server.shutdown()
    server.server_close()


def state() -> dict[str, Any]:
    return dict(json.loads(copies.STATE.read_text())["sources"]["lnd"])


def test_copy_is_made_over_one_connection(source: Any) -> None:
    source.look()
    assert (state()["points"], state()["fault"], state()["waits"]) == ([POINT], None, None)
    content = json.loads((copies.COPIES / state()["copy"]).read_text())
    assert (content["node"], content["channels"][0]["peer"]) == (KEY, "bob")
    assert len(Api.connections) == 1
    first = state()["copy"]
    source.look()
    assert state()["copy"] == first


@pytest.mark.parametrize(
    ("now", "waits"), [("RPC_ACTIVE", "it waits for blocks"), ("LOCKED", "its wallet is not open yet (LOCKED)")]
)
def test_node_that_is_not_at_work_yet_is_waited_for(source: Any, now: str, waits: str) -> None:
    Api.state = now
    source.look()
    assert (state()["waits"], state()["fault"], state().get("copy")) == (waits, None, None)
    assert source.news.is_set()
    Api.state = "SERVER_ACTIVE"
    source.look()
    assert (state()["waits"], bool(state()["copy"])) == (None, True)


class Server:
    """A target that is away until ``back``, in seconds of a clock that stands still."""

    now, back, puts = 0.0, 0.0, 0

    def put(self, _path: Path) -> None:
        if Server.now < Server.back:
            raise Fault("tor cannot reach it")
        Server.puts += 1

    def check(self) -> None:
        """Be there."""

    def close(self) -> None:
        """Have no connection."""


@pytest.mark.parametrize("away", [2.0, 9.0, 100.0, 600.0])
def test_target_that_is_back_gets_the_copy_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: float) -> None:
    """Within a quarter of the time that it was away; nothing else happens meanwhile."""
    monkeypatch.setattr(copies, "STATE", tmp_path / "state.json")
    monkeypatch.setattr(copies, "target", lambda *_words: Server())
    monkeypatch.setattr(time, "monotonic", lambda: Server.now)
    script = runpy.run_path(str(SCRIPTS / "backups_unit.py"))
    place = {"address": "127.0.0.1", "port": 9050, "tls": False}
    settings = {"socks": place, "recipient": "age1", "targets": {"attic": {"type": "ssh"}}}
    known = script["State"](settings)
    known.source("lnd", copy="c1")
    courier = script["Courier"]("attic", settings, known)
    # The clock of a machine does not begin with 0.
    Server.now, Server.back, Server.puts, attempts = 50.0, 50.0 + away, 0, 0
    while not Server.puts:
        pause, attempts = courier.attempt(), attempts + 1
        Server.now += 0.0 if Server.puts else pause
    late = Server.now - Server.back
    assert late <= max(away / 4, 1.0)
    assert attempts < 40
    assert known.targets["attic"]["delivered"]["lnd"]["copy"] == "c1"
    assert courier.attempt() == 30


def verify(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], **targets: Any) -> Any:
    """The report of the program that verifies, for what the unit has written down."""
    copies.STATE.write_text(json.dumps({"sources": {"lnd": found}, "targets": targets}))
    active = subprocess.CompletedProcess([], 0, "active\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *_args, **_more: active)
    taken: list[Any] = []
    monkeypatch.setattr("bcm_guest.prove.prove", taken.append)
    script = runpy.run_path(str(SCRIPTS / "verify.py"))
    stack = script["Stack"]({}, {}, {"remote": list(targets), "targets": ["desk"], "sources": ["lnd"]})
    return taken[0](stack)


def test_start_does_not_fail_while_a_node_waits_for_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "STATE", tmp_path / "state.json")
    report = verify(monkeypatch, {"waits": "it waits for blocks", "fault": None})
    assert report.warnings == ["lnd has nothing to copy yet: it waits for blocks; it is copied once it works"]
    assert report.facts == {}
    # after a restart, a copy is still there
    known = {"waits": "it waits for blocks", "fault": None, "copy": "c1", "points": [], "created": "today"}
    monkeypatch.setattr(copies, "COPIES", tmp_path)
    (tmp_path / "c1").write_bytes(b"a copy")
    copy = {"of": "Channels of lnd", "at": "in this data center", "made": "today"}
    digest = hashlib.sha256(b"a copy").hexdigest()
    assert verify(monkeypatch, known).facts == {"newest": {"c1": digest}, "backups": [copy]}


@pytest.mark.parametrize("tried", [False, True])
def test_slow_target_is_a_warning_beside_one_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tried: bool
) -> None:
    """Neither a first attempt that takes its time nor a copy that is on its way ends a run."""
    monkeypatch.setattr(copies, "STATE", tmp_path / "state.json")
    monkeypatch.setattr(copies, "COPIES", tmp_path)
    (tmp_path / "c1").write_bytes(b"a copy")
    known = {"waits": None, "fault": None, "copy": "c1", "points": [], "created": "today"}
    slow = {"tried": tried, "fault": None, "delivered": {}}
    with pytest.raises(Waiting, match="^target slow has not answered yet: `bcm backup status`") as found:
        verify(monkeypatch, known, away={"tried": True, "fault": "refused", "delivered": {}}, slow=slow)
    fault = "target away lacks the newest copy of lnd, and cannot be reached: refused; it is tried again"
    assert found.value.report.warnings == [fault]
    assert list(found.value.report.facts["newest"]) == ["c1"]
