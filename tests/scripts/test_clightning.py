# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lightningd runs as bitcoin-cli, and what keeps it from starting without its newest database."""

from __future__ import annotations

import http.server
import json
import runpy
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import COLLECTION

SCRIPTS = COLLECTION / "roles/clightning/scripts"


def fault(directory: Path, replica: Path) -> str:
    """What keeps lightningd from starting."""
    return str(runpy.run_path(str(SCRIPTS / "check_databases.py"))["fault"](directory, replica))


# -- bitcoin-cli ------------------------------------------------------------------------------------------------------


class Bitcoind(http.server.BaseHTTPRequestHandler):
    """Answers with ``answer``, and remembers what it was asked."""

    answer = b""
    asked: dict[str, Any]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        type(self).asked = {"authorization": self.headers["Authorization"], **json.loads(self.rfile.read(length))}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def bitcoind() -> Iterator[http.server.HTTPServer]:
    with http.server.HTTPServer(("127.0.0.1", 0), Bitcoind) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def bitcoin_cli(port: int, *words: str, lines: str = "") -> subprocess.CompletedProcess[str]:
    """As the plugin bcli calls it."""
    options = ["-regtest", "-rpcclienttimeout=60", "-rpcconnect=127.0.0.1", f"-rpcport={port}", "-rpcuser=clightning"]
    command = [sys.executable, str(SCRIPTS / "bitcoin_cli.py"), *options, "-stdinrpcpass", *words]
    return subprocess.run(command, input=f"secret\n{lines}", capture_output=True, text=True, timeout=30, check=False)


def test_amounts_are_printed_as_bitcoind_writes_them(bitcoind: http.server.HTTPServer) -> None:
    Bitcoind.answer = b'{"result":{"feerate":0.00001000,"blocks":2},"error":null,"id":1}\n'
    done = bitcoin_cli(bitcoind.server_port, "-stdin", "estimatesmartfee", lines="2\nECONOMICAL\n")
    assert (done.returncode, done.stdout) == (0, '{"feerate":0.00001000,"blocks":2}\n')
    assert Bitcoind.asked["params"] == [2, "ECONOMICAL"]
    assert Bitcoind.asked["authorization"] == "Basic Y2xpZ2h0bmluZzpzZWNyZXQ="


@pytest.mark.parametrize(
    ("answer", "status", "output"),
    [
        ('{"result":"00ff","error":null,"id":1}', 0, "00ff\n"),
        ('{"result":null,"error":null,"id":1}', 0, "\n"),
        (
            '{"result":null,"error":{"code":-8,"message":"Block height out of range"},"id":1}',
            8,
            "error code: -8\nerror message:\nBlock height out of range\n",
        ),
        ("", 1, None),
    ],
)
def test_answers_have_the_form_of_bitcoin_cli(
    bitcoind: http.server.HTTPServer, answer: str, status: int, output: str | None
) -> None:
    Bitcoind.answer = answer.encode()
    done = bitcoin_cli(bitcoind.server_port, "-stdin", "getblockhash", lines="101\n")
    assert done.returncode == status
    assert done.stdout == output or (output is None and "Could not connect" in done.stdout)


def test_node_that_does_not_answer_is_waited_for(bitcoind: http.server.HTTPServer) -> None:
    Bitcoind.answer = b'{"result":null,"error":{"code":-28,"message":"Loading"},"id":1}'
    done = bitcoin_cli(bitcoind.server_port, "-rpcwait", "-rpcwaittimeout=1", "getnetworkinfo")
    assert done.returncode == 28
    assert "Loading" in done.stdout


# -- databases --------------------------------------------------------------------------------------------------------


def database(path: Path, version: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE vars (name TEXT, intval INTEGER)")
        connection.execute("INSERT INTO vars VALUES ('data_version', ?)", [version])
        connection.commit()


@pytest.mark.parametrize(
    ("own", "other", "allowed", "expected"),
    [
        (5, 5, False, ""),
        (6, 5, False, ""),
        (5, None, False, ""),
        (4, 5, False, "is older than its replica"),
        (None, 5, False, "but this node has had one"),
        (None, 5, True, "but this node has had one"),
        (None, None, False, "but this node has had one"),
        (None, None, True, ""),
    ],
)
def test_lightningd_starts_with_its_newest_database_alone(
    tmp_path: Path, own: int | None, other: int | None, allowed: bool, expected: str
) -> None:
    directory, replica = tmp_path / "regtest", tmp_path / "backup/lightningd.sqlite3"
    directory.mkdir()
    (directory / "hsm_secret").touch()
    for path, version in ((directory / "lightningd.sqlite3", own), (replica, other)):
        if version is not None:
            database(path, version)
    if allowed:
        (directory / "new-database").touch()
    found = fault(directory, replica)
    assert expected in found if expected else found == ""
    assert (directory / "new-database").exists() == (allowed and own is None)


def test_lightningd_does_not_start_without_its_wallet(tmp_path: Path) -> None:
    assert "hsm_secret is not there" in fault(tmp_path, tmp_path / "replica")


# -- restores ---------------------------------------------------------------------------------------------------------

KEY = "02" * 33


def replica(path: Path, version: int, key: str = KEY) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE vars (name TEXT, intval INTEGER, blobval BLOB)")
        connection.execute("INSERT INTO vars VALUES ('data_version', ?, NULL)", [version])
        connection.execute("INSERT INTO vars VALUES ('node_id', NULL, ?)", [bytes.fromhex(key)])
        connection.commit()
    return path


def refusal(path: Path, target: Path, seen: int) -> str:
    """Why a replica is not restored; nothing if it is."""
    script = runpy.run_path(str(SCRIPTS / "wallet.py"))
    try:
        script["copy_database"](path, target, KEY, seen)
    except script["Fault"] as fault:
        return str(fault)
    return ""


def test_newest_replica_is_restored(tmp_path: Path) -> None:
    assert refusal(replica(tmp_path / "replica", 7), tmp_path / "target", 7) == ""
    with closing(sqlite3.connect(tmp_path / "target")) as connection:
        assert connection.execute("SELECT intval FROM vars WHERE name = 'data_version'").fetchone() == (7,)


def test_replica_older_than_what_was_seen_is_refused(tmp_path: Path) -> None:
    found = refusal(replica(tmp_path / "replica", 6), tmp_path / "target", 7)
    assert "is an old copy: it has 6 changes, and the node has made 7" in found


def test_replica_of_another_node_is_refused(tmp_path: Path) -> None:
    found = refusal(replica(tmp_path / "replica", 7, "03" * 33), tmp_path / "target", 0)
    assert f"is of another node: {'03' * 33}, not {KEY}" in found


def test_replica_in_use_is_refused(tmp_path: Path) -> None:
    path = replica(tmp_path / "replica", 7)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert "another lightningd uses it" in refusal(path, tmp_path / "target", 0)


def test_damaged_replica_is_refused(tmp_path: Path) -> None:
    path = replica(tmp_path / "replica", 7)
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(len(content) - 100))
    assert "cannot be restored" in refusal(path, tmp_path / "target", 0)


# -- runes ------------------------------------------------------------------------------------------------------------


def rune(number: str, *restrictions: tuple[str, str, str], revoked: bool = False) -> dict[str, Any]:
    """As showrunes has it: each restriction of one alternative."""
    alternatives = [[dict(zip(("fieldname", "condition", "value"), item, strict=True))] for item in restrictions]
    known = {"rune": f"rune{number}", "unique_id": number}
    return (
        known
        | {"restrictions": [{"alternatives": item} for item in alternatives]}
        | ({"blacklisted": True} if revoked else {})
    )


def test_runes_of_consumers_are_known_by_their_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    script = runpy.run_path(str(SCRIPTS / "revoke.py"))
    known = [
        rune("0"),
        rune("1", ("method", "=", "invoice")),
        rune("2", ("method", "=", "invoice"), ("method", "#", "bcm shop")),
        rune("3", ("method", "=", "invoice"), ("method", "#", "bcm till")),
        rune("4", ("method", "=", "invoice"), ("method", "#", "bcm till"), revoked=True),
    ]
    asked: list[tuple[str, ...]] = []

    def answer(*words: str) -> dict[str, Any]:
        asked.append(words)
        return {"runes": known}

    monkeypatch.setitem(script["revoke"].__globals__, "lightning_cli", answer)
    assert script["revoke"](["till", "bank"]) == ["till"]
    assert asked == [("showrunes",), ("blacklistrune", "3")]
