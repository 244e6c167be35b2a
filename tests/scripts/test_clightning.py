# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lightningd runs as bitcoin-cli, and what keeps it from starting without its newest database."""

from __future__ import annotations

import errno
import http.server
import io
import json
import os
import runpy
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import old_blocks, static_channel_backup
from ansible_collections.bcm.core.plugins.module_utils._guest.clightning import Database
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault, Lasting, Refused
from tests.clightning import RECORDINGS
from tests.record_clightning import WORDS
from tests.support import COLLECTION, PATIENCE

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
    told = f"secret\n{lines}"
    return subprocess.run(command, input=told, capture_output=True, text=True, timeout=PATIENCE, check=False)


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
    replica.parent.mkdir()
    (directory / "hsm_secret").touch()
    for path, version in ((directory / "lightningd.sqlite3", own), (replica, other)):
        if version is not None:
            database(path, version)
    if allowed:
        (directory / "new-database").touch()
    found = fault(directory, replica)
    assert expected in found if expected else found == ""
    assert (directory / "new-database").exists() == (allowed and own is None)


@pytest.mark.parametrize(
    ("full", "setting"), [("regtest", "clightning_data_size"), ("backup", "clightning_backup_size")]
)
def test_lightningd_does_not_start_on_a_full_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str, setting: str
) -> None:
    """It would end with the first change, again and again, and not say why."""
    directory, replica = tmp_path / "regtest", tmp_path / "backup/lightningd.sqlite3"
    for path in (directory / "lightningd.sqlite3", replica):
        database(path, 5)
    (directory / "hsm_secret").touch()

    def allocate(descriptor: int, _offset: int, _length: int) -> None:
        if f"/{full}/" in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    found = fault(directory, replica)
    assert found.startswith(f"{tmp_path / full} is full")
    assert setting in found
    monkeypatch.undo()
    assert fault(directory, replica) == ""
    assert {path.name for path in tmp_path.glob("*/*")} == {"hsm_secret", "lightningd.sqlite3"}


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
    try:
        Database(path).copy(target, KEY, seen)
    except Fault as fault:
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


def test_replica_with_blocks_that_bitcoind_lacks_is_refused(
    tmp_path: Path, bitcoind: http.server.HTTPServer
) -> None:
    """lightningd would wait for them, or end again and again."""
    script, path = runpy.run_path(str(SCRIPTS / "wallet.py")), replica(tmp_path / "replica", 7)
    rpc = {"address": "127.0.0.1", "port": bitcoind.server_port, "tls": None}
    bcm = {"stack": "clightning", "needs": {"bitcoind": {"rpc": rpc}}}
    stack = script["Stack"](bcm, {"bitcoind/rpc/clightning": "secret"}, {})
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE blocks (height INT, hash BLOB, prev_hash BLOB, UNIQUE(height))")
        connection.commit()
        Bitcoind.answer = b'{"result":{"blocks":0},"error":null,"id":0}'
        script["check_blocks"](stack, path)
        connection.executemany("INSERT INTO blocks (height) VALUES (?)", [(8,), (9,)])
        connection.commit()
    fault = "nothing was restored: bitcoind lacks blocks, it has 0, and the replica knows 9"
    with pytest.raises(script["Fault"], match=fault):
        script["check_blocks"](stack, path)
    Bitcoind.answer = b'{"result":{"blocks":9},"error":null,"id":0}'
    script["check_blocks"](stack, path)


def test_release_without_grpc_is_refused_if_that_is_asked_for(tmp_path: Path) -> None:
    script = runpy.run_path(str(SCRIPTS / "wallet.py"))
    expected = {"shown": str(tmp_path / "shown"), "grpc": str(tmp_path / "plugins/cln-grpc")}
    fault = "clightning_grpc is true, and its release has no cln-grpc: set it to false, or take a release with that"
    with pytest.raises(script["Fault"], match=fault):
        script["look"](script["Stack"]({}, {}, expected), False, False, b"")


def test_volume_with_a_wallet_of_another_chain_is_refused(tmp_path: Path) -> None:
    """There is no wallet for lightningd then, and it would get one."""
    script, names = runpy.run_path(str(SCRIPTS / "wallet.py")), ("replica", "recovery", "shown")
    expected = {name: str(tmp_path / name) for name in names}
    wallet = script["Wallet"]({**expected, "network": "bitcoin", "directory": str(tmp_path / "volume/bitcoin")})
    for network in ("bitcoin", "regtest"):
        (tmp_path / "volume" / network).mkdir(parents=True)
    script["check"](wallet, {}, False, False)
    (tmp_path / "volume/regtest/hsm_secret").touch()
    fault = "its volume has a wallet of regtest, and this data center is on bitcoin"
    with pytest.raises(script["Fault"], match=fault):
        script["check"](wallet, {}, False, False)


class HsmTool:
    """lightning-hsmtool, which makes a wallet of the node ``key``, or finds the words invalid."""

    def __init__(self, fault: type[Exception], key: str | None) -> None:
        self.fault, self.key = fault, key

    def __call__(self, *command: str, words: str = "") -> str:
        if command[1] == "generatehsm":
            if self.key is None:
                raise self.fault("lightning-hsmtool: Could not read mnemonic: Invalid mnemonic")
            Path(command[2]).write_text(words)
        return str(self.key)


@pytest.mark.parametrize(
    ("made", "known", "fault"),
    [
        (None, None, "its recovery words are not valid: correct them with `bcm secret edit`"),
        ("03" * 33, KEY, f"its recovery words are of another node: {'03' * 33}, not {KEY}; correct them"),
        (KEY, KEY, ""),
        (KEY, None, ""),
    ],
)
def test_no_wallet_is_made_of_wrong_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str | None, known: str | None, fault: str
) -> None:
    """It would take the place of the right one: the next run refuses to use it, and does not replace it."""
    script, names = runpy.run_path(str(SCRIPTS / "wallet.py")), ("replica", "recovery", "shown")
    expected = {name: str(tmp_path / name) for name in names}
    wallet = script["Wallet"]({**expected, "network": "regtest", "directory": str(tmp_path / "volume/regtest")})
    monkeypatch.setitem(script["Wallet"].make.__globals__, "run", HsmTool(script["Fault"], made))
    if fault:
        with pytest.raises(script["Fault"], match=fault):
            wallet.make("some  words\n", known)
        assert list(wallet.directory.iterdir()) == []
    else:
        wallet.make("some  words\n", known)
        assert wallet.secret.read_text() == "some words\n\n"


def test_node_of_a_channel_backup_is_known() -> None:
    """By the words of which it was recorded, however they are typed; the secrets may lack the key of the node."""
    check = runpy.run_path(str(SCRIPTS / "wallet.py"))["check_words"]
    backup = bytes.fromhex(json.loads(RECORDINGS.read_text())["emergency.recover"])
    check(f" {WORDS}\n", {"the copy": backup})
    fault = "its recovery words are not of the node of its channel backup .the copy., or that is damaged"
    with pytest.raises(Fault, match=fault):
        check("legal winner thank year wave sausage worth useful legal winner thank yellow", {"the copy": backup})
    with pytest.raises(Fault, match=fault):
        check(WORDS, {"the copy": backup[:-1]})


def test_node_of_a_replica_is_known(tmp_path: Path) -> None:
    assert Database(replica(tmp_path / "replica", 7)).node() == KEY
    (tmp_path / "replica").write_bytes(b"not a database, but long enough to be one" * 99)
    with pytest.raises(Fault, match="cannot be restored"):
        Database(tmp_path / "replica").node()


def test_channels_of_a_replica_are_known(tmp_path: Path) -> None:
    """As Core Lightning keeps them: those that are closed are left out."""
    path = replica(tmp_path / "replica", 7)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE peers (id INTEGER, node_id BLOB)")
        connection.execute("INSERT INTO peers VALUES (1, ?)", [bytes.fromhex("03" * 33)])
        connection.execute(
            "CREATE TABLE channels (peer_id INTEGER, state INTEGER, funding_tx_id BLOB, funding_tx_outnum INTEGER, "
            "funding_satoshi INTEGER, msatoshi_local INTEGER, in_payments_offered INTEGER, "
            "out_payments_offered INTEGER)"
        )
        for state, first in ((3, 0xAB), (10, 0xCD)):
            values = [1, state, bytes([first, *bytes(31)]), 1, 50000, 40000999, 2, 3]
            connection.execute("INSERT INTO channels VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        connection.commit()
    found = {"public_key": "03" * 33, "capacity": 50000, "local": 40000, "payments": 5}
    assert Database(path).channels(KEY, 7) == {f"{'00' * 31}ab:1": found}
    with pytest.raises(Fault, match="is an old copy"):
        Database(path).channels(KEY, 8)


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


@pytest.mark.parametrize(
    ("needed", "fault"),
    [
        ({}, "does not say what it may do there"),
        ({"rune": []}, "does not say what it may do there"),
        ({"rune": ["invoice|method^list"]}, "does not say what it may do there"),
        ({"rune": ["invoice", "createrune"]}, "asks for createrune: it could give itself any other permission"),
        ({"rune": ["commando-rune", "exposesecret"]}, "asks for commando-rune, exposesecret: it could give itself"),
    ],
)
def test_consumer_that_asks_for_too_much_gets_no_rune(
    monkeypatch: pytest.MonkeyPatch, needed: dict[str, Any], fault: str
) -> None:
    monkeypatch.setattr("bcm_guest.prove.make_credentials", lambda make: None)
    script = runpy.run_path(str(SCRIPTS / "credentials.py"))
    with pytest.raises(script["Lasting"], match=f"stack till .*{fault}"):
        script["calls_of"]("till", needed)
    assert script["calls_of"]("till", {"rune": ["invoice", "getinfo"]}) == ["getinfo", "invoice"]


# -- links of clients -------------------------------------------------------------------------------------------------


class Cli:
    """A lightning-cli that remembers runes."""

    def __init__(self) -> None:
        self.runes = [rune("0"), rune("1", ("method", "=", "invoice"), ("method", "#", "bcm till"))]

    def __call__(self, *words: str) -> dict[str, Any]:
        if words == ("showrunes",):
            return {"runes": self.runes}
        if words[0] == "blacklistrune":
            next(item for item in self.runes if item["unique_id"] == words[1])["blacklisted"] = True
            return {}
        assert words[:2] == ("-k", "createrune")
        calls, (comment,) = json.loads(words[2].removeprefix("restrictions="))
        self.runes.append(rune(str(len(self.runes)), ("method", "#", comment.partition("#")[2])))
        self.calls = [call.removeprefix("method=") for call in calls]
        return self.runes[-1]


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The program, and a lightning-cli for it."""
    script = runpy.run_path(str(SCRIPTS / "connection.py"))
    cli = Cli()
    monkeypatch.setitem(script["make"].__globals__, "lightning_cli", cli)
    return {**script, "cli": cli}


def test_link_is_shown_again_and_revoked(connection: dict[str, Any]) -> None:
    link = connection["make"]("phone", "read", "a.onion:3010")
    assert link == {"link": "clnrest://a.onion:3010?rune=rune2"} == connection["make"]("phone", "read", "a.onion:3010")
    with pytest.raises(connection["Refusal"], match="phone may read, not pay"):
        connection["make"]("phone", "pay", "a.onion:3010")
    connection["revoke"]("phone")
    with pytest.raises(connection["Refusal"], match="phone has no link; those that have one: none"):
        connection["revoke"]("phone")
    assert connection["make"]("phone", "pay", "a.onion:3010") == {"link": "clnrest://a.onion:3010?rune=rune3"}


@pytest.mark.parametrize("may", ["read", "invoices", "pay"])
def test_link_gives_no_power_over_the_node(connection: dict[str, Any], may: str) -> None:
    connection["make"]("phone", may, "a.onion:3010")
    moving = {"withdraw", "txprepare", "txsend", "fundchannel", "multifundchannel", "close", "connect", "keysend"}
    powerful = {"createrune", "showrunes", "commando", "plugin", "setconfig", "stop", "datastore", "signpsbt"}
    assert not (moving | powerful).intersection(connection["cli"].calls)
    assert ("xpay" in connection["cli"].calls, "invoice" in connection["cli"].calls) == (may == "pay", may != "read")
    assert connection["client_of"](rune("9", ("method", "#", "bcm phone"))) is None


# -- restores of the channel backup -----------------------------------------------------------------------------------


def test_channels_of_all_backups_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a copy, and of the second volume; what is done stays done, once lightningd has been started again."""
    script = runpy.run_path(str(SCRIPTS / "recover.py"))
    target, asked = tmp_path / "emergency.recover", tmp_path / "asked"
    does_start = True

    class Lightningd:
        def __init__(self, directory: str) -> None:
            assert directory == str(tmp_path)

        def call(self, method: str, **_params: Any) -> dict[str, str]:
            if method != "makesecret":
                with asked.open("ab") as file:
                    file.write(f"{method} ".encode() + target.read_bytes() + b"\n")
            return {"secret": "00" * 32}

    def run(argv: list[str], **_more: Any) -> None:
        assert argv == ["systemctl", "restart", "clightning"]
        if not does_start:
            raise subprocess.CalledProcessError(1, argv)

    def main() -> dict[str, Any]:
        request = {"bcm": {"user": "clightning"}, "expected": {"directory": str(tmp_path)}, "deadline": 0}
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request)))
        script["main"]()
        return dict(json.loads(capfd.readouterr().out))

    own = script["main"].__globals__
    monkeypatch.setitem(own, "Lightningd", Lightningd)
    monkeypatch.setitem(own, "become", lambda _user: None)
    monkeypatch.setattr(subprocess, "run", run)
    for name, content in (("restoring-copy", b"copy"), ("restoring", b"volume")):
        (tmp_path / name).write_bytes(content)
    does_start = False
    with pytest.raises(subprocess.CalledProcessError):
        main()
    does_start = True
    assert main() == {"changed": True}
    assert asked.read_bytes() == b"emergencyrecover copy\nemergencyrecover volume\n" * 2
    assert main() == {"changed": False}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked", "emergency.recover"]


def channel_of_a_backup(address: bytes, state: bytes) -> tuple[bytes, bytes]:
    """A channel by common/scb_wire.csv of Core Lightning: what is not its state, and all of it."""
    begin = struct.pack(">Q32s33s", 1, b"c" * 32, b"n" * 33) + address + struct.pack(">H", 9735)
    begin += struct.pack(">32sIQ", b"t" * 32, 0, 1_000_000) + struct.pack(">H3s", 3, b"\x40\x10\x00")
    return begin, begin + struct.pack(">I", len(state)) + state


ADDRESSES = (b"\x01" + bytes(4), b"\x02" + bytes(16), b"\x04" + bytes(35), b"\x05\x07a.onion")


def message_of_a_backup(*channels: bytes, kind: int = 6137) -> bytes:
    return struct.pack(">HQIH", kind, 0x5555555555555555, 1_700_000_000, len(channels)) + b"".join(channels)


def test_channels_of_a_backup_are_read_without_their_state() -> None:
    made = [channel_of_a_backup(address, b"s" * size) for size, address in enumerate(ADDRESSES)]
    found = static_channel_backup.channels(message_of_a_backup(*(whole for _begin, whole in made)))
    assert found == [begin + bytes(4) for begin, _whole in made]
    assert static_channel_backup.channels(message_of_a_backup()) == []


# Of a channel with lnd that v26.06.6 wrote, decrypted.
RECORDED = bytes.fromhex(
    "17f900000000000000016b0d72f00001000000000000000101f08eb4b5461cb2e444a6e2c67657be74237342092274a8bc9148fbd7b0782e"
    "02876ea1ce144fb4100f136796a887742f4ad7d904e3706986a4faff70c5d56d0a04c861609bac731159d2773eb732f468a25f8fedabaa97"
    "840d5c191ac40d9f0f7801e203260701f08eb4b5461cb2e444a6e2c67657be74237342092274a8bc9148fbd7b0782e000000000000000000"
    "0f424000034010000000009b010c000100000000000000000000038402e77f3e61e6bc68334f3f88ba04fa726500476867802d1f87927406"
    "5a6664102c029e2f52c44d21789de096bb124f699eb913a80cbde53ddea2e7cb82d2ca1f8c28025beed318ab51b42fc24ea7f350758a857e"
    "4a99438cd882203ace78a86d75b93d0289d6e07b61b1dd739e36f95b1eadfc54ded82937fcaa8e772e57b438c463c90b05010007020090"
)


def test_backup_of_the_real_program_is_read() -> None:
    (channel,) = static_channel_backup.channels(RECORDED)
    assert channel == RECORDED[16 : len(RECORDED) - 0x9B - 4] + bytes(4)


def test_backup_of_another_form_is_not_read() -> None:
    _begin, whole = channel_of_a_backup(ADDRESSES[0], b"state")
    message = message_of_a_backup(whole)
    others = [message_of_a_backup(whole, kind=6135), message + b"x", *(message[:end] for end in range(len(message)))]
    others += [message_of_a_backup(channel_of_a_backup(b"\x09" + bytes(4), b"")[1])]
    for other in others:
        with pytest.raises(ValueError, match="it "):
            static_channel_backup.channels(other)
    for short in (b"", bytes(40)):
        with pytest.raises(ValueError, match="it is too short"):
            static_channel_backup.decrypted(short, bytes(32))


@pytest.mark.parametrize("is_read", [True, False])
def test_state_of_channels_is_kept_from_lightningd(monkeypatch: pytest.MonkeyPatch, is_read: bool) -> None:
    """It would not find its coins by it. What cannot be read here, lightningd reads."""
    own = runpy.run_path(str(SCRIPTS / "recover.py"))
    begin, whole = channel_of_a_backup(ADDRESSES[2], b"state")
    asked: list[tuple[str, dict[str, Any]]] = []

    class Lightningd:
        def call(self, method: str, **params: Any) -> dict[str, str]:
            asked.append((method, params))
            return {"secret": "0b" * 32}

    def decrypted(content: bytes, secret: bytes) -> bytes:
        assert secret == b"\x0b" * 32
        if not is_read:
            raise ValueError("it is not of this node, or damaged")
        return content

    monkeypatch.setattr(static_channel_backup, "decrypted", decrypted)
    own["close_all"](Lightningd(), message_of_a_backup(whole))
    closed = ("recoverchannel", {"scb": [(begin + bytes(4)).hex()]}) if is_read else ("emergencyrecover", {})
    assert asked == [("makesecret", {"string": "scb secret"}), closed]


def chain(height: int, kept: int = 0, *peers: list[str]) -> Any:
    """Answers of a bitcoind, with a chain whose blocks come every ten minutes from 2026 on."""

    def answer(method: str, *params: Any) -> Any:
        if method == "getblockchaininfo":
            return {"blocks": height, **({"pruned": True, "pruneheight": kept} if kept else {})}
        if method == "getpeerinfo":
            return [{"servicesnames": services} for services in peers]
        return params[0] if method == "getblockhash" else {"mediantime": 1767225600 + 600 * params[0]}

    return answer


def test_bitcoind_that_is_told_of_its_user_meanwhile_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore may begin while bitcoind is configured; another error is one at once."""
    script = runpy.run_path(str(SCRIPTS / "wallet.py"))
    variables = script["ask"].__globals__
    answers = [Fault("nothing answers"), Refused("status 403", 403), {"blocks": 7}, Refused("unknown method", 404)]

    def json_rpc(*_words: Any) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setitem(variables, "json_rpc", json_rpc)
    monkeypatch.setitem(variables, "_INTERVAL", 0.0)
    used = {"address": "10.0.0.2", "port": 8332, "tls": None}
    plan = {"stack": "clightning", "needs": {"bitcoind": {"rpc": used}}}
    stack = script["Stack"](plan, {"bitcoind/rpc/clightning": ""}, {})
    assert script["ask"](stack, "getblockchaininfo") == {"blocks": 7}
    with pytest.raises(Refused, match="unknown method"):
        script["ask"](stack, "getblock")


def test_search_for_coins_begins_before_the_wallet_was_made() -> None:
    def height_at(created: str | None, margin: float = old_blocks.CLOCKS) -> int:
        return old_blocks.birth_height(chain(1000), created, margin)

    assert height_at("2026-01-02T00:00:00+00:00") == 144 - 12 - 1
    assert height_at("2026-01-05T00:00:00+00:00", 86400) == 3 * 144 - 1
    assert height_at("2025-01-02T00:00:00+00:00") == 1
    assert height_at("2027-01-02T00:00:00+00:00") == 1000
    assert height_at(None) == 1
    assert old_blocks.birth_height(chain(0), None) == 0


def test_blocks_that_bitcoind_has_dropped_come_from_its_peers_or_nothing_is_restored() -> None:
    old_blocks.check_old_blocks(chain(1000), 1)
    old_blocks.check_old_blocks(chain(1000, 700), 700)
    old_blocks.check_old_blocks(chain(1000, 700, ["NETWORK_LIMITED"], ["NETWORK", "WITNESS"]), 699)
    fault = r"nothing was restored: bitcoind has dropped the blocks before 700 .* from 699 on, .* no peer with all"
    with pytest.raises(Lasting, match=fault):
        old_blocks.check_old_blocks(chain(1000, 700, ["NETWORK_LIMITED"]), 699)


# -- WebSocket ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["101 Switching Protocols", "101 Switching Protocols, without key", "200 OK"])
def test_handshake_of_websocket_is_proved(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """With the key and the answer of RFC 6455."""
    status, _comma, lacks = answer.partition(", ")
    key = "" if lacks else "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    monkeypatch.setattr("bcm_guest.prove.prove", lambda _look: None)
    check = runpy.run_path(str(SCRIPTS / "verify.py"))["check_websocket"]
    ours, theirs = socket.socketpair()
    stack = SimpleNamespace(name="clightning", service=lambda _name: SimpleNamespace(connect=lambda: ours))
    theirs.sendall(f"HTTP/1.1 {status}\r\n{key}\r\n".encode())
    if answer == "101 Switching Protocols":
        check(stack)
    else:
        with pytest.raises(Fault, match="^it does not speak WebSocket: b'HTTP/1.1 "):
            check(stack)
    assert b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in theirs.recv(4096)
    theirs.close()
