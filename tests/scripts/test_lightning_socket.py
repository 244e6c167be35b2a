# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket of programs that know no other way to Core Lightning, as processes, with a REST service behind it."""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import json
import runpy
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.bcm.core.plugins.module_utils._guest.lightning_socket import split_requests
from tests.support import COLLECTION, PATIENCE, until

GUEST = COLLECTION / "plugins/module_utils/_guest"
PROGRAMS = {
    "btcpayserver": COLLECTION / "roles/btcpayserver/scripts/btcpayserver_socket.py",
    "lightning_charge": COLLECTION / "roles/lightning_charge/scripts/lightning_charge_socket.py",
    "spark": COLLECTION / "roles/spark/scripts/spark_socket.py",
}
RUNE = "rune-of-the-test"
KEY = "02" * 33
#: what `decode` answers to an invoice
INVOICE = {"type": "bolt11 invoice", "valid": True, "amount_msat": 5000, "payee": KEY, "created_at": 1}
CHANNEL = {
    "peer_id": KEY, "peer_connected": True, "state": "CHANNELD_NORMAL", "channel_id": "ab" * 32, "to_us_msat": 600_000,
    "total_msat": 1_000_000, "our_reserve_msat": 10_000, "their_reserve_msat": 11_000, "status": ["at work"],
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "close": {"type": "mutual", "txids": ["old", "new"]},
    "decode": INVOICE,
    "getinfo": {"id": KEY, "version": "v26.06.6", "fees_collected_msat": 7},
    "invoice": {"bolt11": "lnbcrt1"},
    "listfunds": {"outputs": [{"amount_msat": 2_500_000, "status": "confirmed"}], "channels": []},
    "listpays": {"pays": [{"amount_msat": 5000, "amount_sent_msat": 5001, "status": "complete"}]},
    "listpeerchannels": {"channels": [CHANNEL]},
    "listpeers": {"peers": [{"id": KEY, "connected": True}]},
    "waitanyinvoice": {"label": "a", "pay_index": 3, "amount_received_msat": 9000},
}


class Clnrest(http.server.BaseHTTPRequestHandler):
    """A REST service that refuses as clnrest does, and answers `waitanyinvoice` when something was paid."""

    asked: list[tuple[str, dict[str, Any]]]
    paid: threading.Event

    def do_POST(self) -> None:
        method = self.path.removeprefix("/v1/")
        params = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((method, params))
        if self.headers["Rune"] != RUNE:
            self.reply(401, {"code": 1501, "data": None, "message": "Not authorized: Not derived from master"})
        elif method == "waitanyinvoice" and not self.paid.wait(PATIENCE):
            self.reply(500, {"code": 904, "data": None, "message": "Timed out"})
        elif method == "listsendpays":
            self.reply(500, {"code": None, "data": None, "message": "Connection refused"})
        elif method == "delinvoice":
            self.reply(500, {"code": 906, "data": {"current_status": "paid"}, "message": "Invoice status is paid"})
        else:
            self.reply(201, ANSWERS[method])

    def reply(self, status: int, body: Any) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_certificate(tmp_path_factory.mktemp("tls"))


def made_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(hours=1))
    builder = builder.not_valid_after(now + timedelta(hours=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem, form, plain = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = folder / "pair.pem"
    path.write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, form, plain))
    return path


@contextmanager
def serving(certificate: Path, port: int = 0) -> Iterator[tuple[int, type[Clnrest]]]:
    """The REST service, at a port, and what it was asked."""
    handler = type("Handler", (Clnrest,), {"asked": [], "paid": threading.Event()})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1], handler
        finally:
            handler.paid.set()
            server.shutdown()
            thread.join()


@contextmanager
def program(role: str, folder: Path, port: int, trust: Path, rune: str = RUNE) -> Iterator[Path]:
    """The program of a role at work, and its socket."""
    (folder / "bcm_guest").symlink_to(GUEST)
    path, config, told = folder / "lightning-rpc", folder / "node.json", folder / "told"
    config.write_text(
        json.dumps({"socket": str(path), "address": "127.0.0.1", "port": port, "rune": rune, "trust": str(trust)})
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(told))
        systemd.settimeout(30)
        environment = {"PYTHONPATH": str(folder), "NOTIFY_SOCKET": str(told), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen([sys.executable, str(PROGRAMS[role]), str(config)], env=environment)
        try:
            assert systemd.recv(100) == b"READY=1"
            yield path
        finally:
            process.terminate()
            process.wait(PATIENCE)


class Lightningd:
    """A client of the socket, as the library clightning-client is one: many calls at a time, and lines."""

    def __init__(self, path: Path) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(30)
        self._connection.connect(str(path))
        self._lines = self._connection.makefile("rb")

    def send(self, text: str) -> None:
        self._connection.sendall(text.encode())

    def read(self) -> Any:
        """The next answer; None at the end."""
        for line in self._lines:
            if line.strip():
                return json.loads(line)
        return None

    def call(self, method: str, params: Any = ()) -> Any:
        self.send(json.dumps({"method": method, "params": params, "id": "7"}))
        answer = self.read()
        assert answer["id"] == "7"
        return answer.get("result", answer.get("error"))

    def close(self) -> None:
        self._lines.close()
        self._connection.close()


@pytest.fixture
def clnrest(certificate: Path) -> Iterator[tuple[int, type[Clnrest]]]:
    with serving(certificate) as found:
        yield found


@pytest.fixture
def charge(clnrest: tuple[int, Any], certificate: Path, tmp_path: Path) -> Iterator[Lightningd]:
    with program("lightning_charge", tmp_path, clnrest[0], certificate) as path:
        client = Lightningd(path)
        yield client
        client.close()


@pytest.fixture
def spark(clnrest: tuple[int, Any], certificate: Path, tmp_path: Path) -> Iterator[Lightningd]:
    with program("spark", tmp_path, clnrest[0], certificate) as path:
        client = Lightningd(path)
        yield client
        client.close()


@pytest.mark.parametrize("role", PROGRAMS)
def test_rune_allows_what_the_socket_takes_and_nothing_else(role: str) -> None:
    found = runpy.run_path(str(PROGRAMS[role]))
    needs = yaml.safe_load((COLLECTION / "roles" / role / "meta/stack.yml").read_text())["needs"]
    node = needs.get("clightning") or needs["lightning"]["one_of"]["clightning"]
    own = {"lightning_charge": ({"listconfigs"}, set()), "spark": ({"listconfigs", "decodepay"}, {"listpeerchannels"})}
    here, behind = own.get(role, (set(), set()))
    assert set(node["permissions"]["rune"]) == (set(found["METHODS"]) - here) | behind
    assert set(found.get("ANSWERS", ())) <= set(found["METHODS"])


def test_parameters_get_their_names(charge: Lightningd, clnrest: tuple[int, type[Clnrest]]) -> None:
    assert charge.call("invoice", ["1000", "label", "tea", None, None, None]) == {"bolt11": "lnbcrt1"}
    assert charge.call("invoice", {"amount_msat": 5, "label": "a"}) == {"bolt11": "lnbcrt1"}
    named = {"amount_msat": "1000", "label": "label", "description": "tea"}
    assert clnrest[1].asked == [("invoice", named), ("invoice", {"amount_msat": 5, "label": "a"})]


@pytest.mark.parametrize(
    ("method", "params", "error"),
    [
        ("delinvoice", ["a", "unpaid"],
         {"code": 906, "message": "Invoice status is paid", "data": {"current_status": "paid"}}),
        ("withdraw", [], {"code": -32601, "message": "Unknown command 'withdraw'"}),
        (["getinfo"], [], {"code": -32601, "message": "Unknown command '['getinfo']'"}),
        ("getinfo", ["more"], {"code": -32602, "message": "too many parameters: got 1, expected 0"}),
        ("getinfo", "more", {"code": -32602, "message": "Expected array or object for params"}),
    ],
)  # fmt: skip
def test_errors_have_the_codes_of_lightningd(charge: Lightningd, method: str, params: Any, error: Any) -> None:
    assert charge.call(method, params) == error


def test_configuration_of_the_node_is_not_asked_for(charge: Lightningd, clnrest: tuple[int, type[Clnrest]]) -> None:
    assert charge.call("listconfigs") == {}
    assert clnrest[1].asked == []


def test_revoked_rune_is_an_error(clnrest: tuple[int, Any], certificate: Path, tmp_path: Path) -> None:
    with program("spark", tmp_path, clnrest[0], certificate, "another") as path:
        error = Lightningd(path).call("getinfo")
    assert error == {"code": 1501, "message": "Not authorized: Not derived from master"}


def test_certificate_of_a_stranger_is_refused(clnrest: tuple[int, Any], tmp_path: Path) -> None:
    with program("lightning_charge", tmp_path, clnrest[0], Path(ssl.get_default_verify_paths().cafile or "")) as path:
        error = Lightningd(path).call("getinfo")
    assert (error["code"], "CERTIFICATE_VERIFY_FAILED" in error["message"]) == (-32603, True)
    assert clnrest[1].asked == []


def test_call_that_waits_does_not_hold_up_others(charge: Lightningd, clnrest: tuple[int, type[Clnrest]]) -> None:
    """Of two requests in one packet, the second one is answered first."""
    wait = {"method": "waitanyinvoice", "params": [None], "id": "1"}
    charge.send(json.dumps(wait) + json.dumps({"method": "getinfo", "params": [], "id": "2"}))
    assert charge.read()["id"] == "2"
    clnrest[1].paid.set()
    assert charge.read() == {"jsonrpc": "2.0", "id": "1", "result": ANSWERS["waitanyinvoice"]}


def test_restart_of_the_node_is_survived(certificate: Path, tmp_path: Path) -> None:
    """A call that waits goes on, another one fails while the node is away."""
    with serving(certificate) as (port, handler):
        node = program("lightning_charge", tmp_path, port, certificate)
        path = node.__enter__()
        charge = Lightningd(path)
        charge.send(json.dumps({"method": "waitanyinvoice", "params": [2], "id": "1"}))
        until(lambda: handler.asked == [("waitanyinvoice", {"lastpay_index": 2})], "the question")
        # as clnrest says that lightningd has gone
        handler.reply = lambda self, _status, _body: Clnrest.reply(self, 500, {"code": None, "message": "gone"})
    try:
        other = Lightningd(path)
        error = other.call("getinfo")
        assert (error["code"], error["message"].startswith("The node does not answer: ")) == (-32603, True)
        with serving(certificate, port) as (_port, handler):
            handler.paid.set()
            assert charge.read()["result"]["pay_index"] == 3
            assert other.call("getinfo")["id"] == KEY
    finally:
        node.__exit__(None, None, None)


@pytest.mark.parametrize("role", PROGRAMS)
def test_node_may_get_another_certificate(role: str, certificate: Path, tmp_path: Path) -> None:
    """One that is trusted is taken without a restart; another one is refused, with one message for each call."""
    (tmp_path / "renewed").mkdir()
    renewed, trust = made_certificate(tmp_path / "renewed"), tmp_path / "trust.pem"
    trust.write_bytes(certificate.read_bytes() + renewed.read_bytes())
    with serving(certificate) as (port, _handler):
        node = program(role, tmp_path, port, trust)
        client = Lightningd(node.__enter__())
        assert client.call("getinfo")["id"] == KEY
    try:
        with serving(renewed, port):
            assert client.call("getinfo")["id"] == KEY
        (tmp_path / "stranger").mkdir()
        with serving(made_certificate(tmp_path / "stranger"), port) as (_port, handler):
            error = client.call("getinfo")
        assert (error["code"], "CERTIFICATE_VERIFY_FAILED" in error["message"]) == (-32603, True)
        assert handler.asked == []
        with serving(renewed, port):
            assert client.call("getinfo")["id"] == KEY
    finally:
        node.__exit__(None, None, None)


@pytest.mark.parametrize("role", PROGRAMS)
def test_revoked_rune_ends_a_call_that_waits(role: str, certificate: Path, tmp_path: Path) -> None:
    """And is not asked for again and again: the program ends, and the next run brings another rune."""
    with serving(certificate) as (port, handler), program(role, tmp_path, port, certificate, "revoked") as path:
        error = Lightningd(path).call("waitanyinvoice")
        assert error == {"code": 1501, "message": "Not authorized: Not derived from master"}
        assert len(handler.asked) == 1


def test_call_of_a_client_that_has_gone_is_given_up(charge: Lightningd, clnrest: tuple[int, type[Clnrest]]) -> None:
    """Its connection to the node ends, and the socket answers others."""
    gone = threading.Event()

    def await_end(self: Any, _status: int, _body: Any) -> None:
        if self.rfile.read(1) == b"":
            gone.set()

    clnrest[1].reply = await_end  # type: ignore[method-assign]
    clnrest[1].paid.set()
    charge.send(json.dumps({"method": "waitanyinvoice", "params": [], "id": "1"}))
    until(lambda: len(clnrest[1].asked) == 1, "the question")
    charge.close()
    assert gone.wait(PATIENCE)


@pytest.mark.parametrize("text", ["[]", "x", "{" + " " * (1 << 21)])
def test_what_is_no_request_ends_the_connection(charge: Lightningd, text: str) -> None:
    try:
        charge.send(text)
        assert charge.read() is None
    except (BrokenPipeError, ConnectionResetError):
        pass  # it did not read all of it


@pytest.mark.parametrize("split", range(1, 40, 3))
def test_requests_may_come_in_pieces(split: int) -> None:
    content = ' {"id": "1", "method": "ünder"}\n\n{"id": "2"}'.encode()
    found, rest = split_requests(content[:split])
    more, rest = split_requests(rest + content[split:])
    assert ([item["id"] for item in found + more], rest) == (["1", "2"], b"")


# -- BTCPay Server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def btcpayserver(clnrest: tuple[int, Any], certificate: Path, tmp_path: Path) -> Iterator[Lightningd]:
    with program("btcpayserver", tmp_path, clnrest[0], certificate) as path:
        client = Lightningd(path)
        yield client
        client.close()


def test_invoices_of_btcpayserver_keep_all_that_it_says(
    btcpayserver: Lightningd, clnrest: tuple[int, type[Clnrest]]
) -> None:
    """As its library sends it: all by place, with null for what it leaves out."""
    made = btcpayserver.call("invoice", ["any", "aLabel", "tea", 900, None, None, False, None, True])
    assert made == {"bolt11": "lnbcrt1"}
    assert clnrest[1].asked == [
        ("invoice", {"amount_msat": "any", "label": "aLabel", "description": "tea", "expiry": 900,
                     "exposeprivatechannels": False, "deschashonly": True}),
    ]  # fmt: skip


def test_btcpayserver_sees_the_node_and_cannot_pay(
    btcpayserver: Lightningd, clnrest: tuple[int, type[Clnrest]]
) -> None:
    assert btcpayserver.call("listpays", [None, "ab"])["pays"][0]["amount_sent_msat"] == 5001
    assert btcpayserver.call("listpeerchannels")["channels"] == [CHANNEL]
    assert clnrest[1].asked == [("listpays", {"payment_hash": "ab"}), ("listpeerchannels", {})]
    for method in ("pay", "keysend", "fundchannel", "connect", "newaddr", "withdraw", "createrune"):
        assert btcpayserver.call(method) == {"code": -32601, "message": f"Unknown command '{method}'"}


# -- the database of Lightning Charge ---------------------------------------------------------------------------------


def copied(database: Path) -> subprocess.CompletedProcess[str]:
    program = COLLECTION / "roles/lightning_charge/scripts/lightning_charge_copy.py"
    command = [sys.executable, str(program), str(database)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_copies_of_the_last_starts_are_kept(tmp_path: Path) -> None:
    database = tmp_path / "charge.db"
    assert (copied(database).returncode, list(tmp_path.iterdir())) == (0, [])
    for number in range(5):
        with contextlib.closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("CREATE TABLE IF NOT EXISTS invoice (number INTEGER)")
            connection.execute("INSERT INTO invoice VALUES (?)", [number])
        assert copied(database).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["charge.db", *(f"charge.db.{i}" for i in (1, 2, 3))]
    for number in (1, 2, 3):
        with contextlib.closing(sqlite3.connect(f"{database}.{number}")) as connection:
            assert connection.execute("SELECT max(number) FROM invoice").fetchone() == (5 - number,)


def test_damaged_database_is_not_opened_and_takes_no_copy_away(tmp_path: Path) -> None:
    database = tmp_path / "charge.db"
    database.write_bytes(b"no database, certainly" * 100)
    (tmp_path / "charge.db.1").write_bytes(b"a copy")
    done = copied(database)
    assert (done.returncode, "charge.db is damaged: " in done.stderr) == (1, True)
    assert f"put {database}.1, a copy of it, in its place" in done.stderr
    assert (tmp_path / "charge.db.1").read_bytes() == b"a copy"


# -- Spark ------------------------------------------------------------------------------------------------------------


def test_spark_gets_amounts_as_in_2022(spark: Lightningd) -> None:
    assert spark.call("getinfo") == {
        "id": KEY, "version": "v26.06.6", "fees_collected_msat": "7msat", "msatoshi_fees_collected": 7, "address": [],
    }  # fmt: skip
    assert spark.call("listpays")["pays"] == [
        {"amount_msat": "5000msat", "msatoshi": 5000, "amount_sent_msat": "5001msat", "msatoshi_sent": 5001,
         "status": "complete"},
    ]  # fmt: skip
    (coin,) = spark.call("listfunds")["outputs"]
    assert (coin["value"], coin["amount_msat"]) == (2500, "2500000msat")


def test_spark_finds_channels_below_their_peers(spark: Lightningd) -> None:
    (peer,) = spark.call("listpeers", [KEY])["peers"]
    (channel,) = peer["channels"]
    assert (peer["connected"], channel["msatoshi_to_us"], channel["msatoshi_total"]) == (True, 600_000, 1_000_000)
    assert (channel["our_channel_reserve_satoshis"], channel["their_channel_reserve_satoshis"]) == (10, 11)


def test_spark_decodes_invoices_and_no_offers(spark: Lightningd, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spark.call("decodepay", ["lnbcrt1"])["msatoshi"] == 5000
    assert spark.call("listconfigs") == {"# version": "v26.06.6", "experimental-offers": False}
    monkeypatch.setitem(ANSWERS, "decode", {"type": "bolt12 offer", "valid": True})
    assert spark.call("decodepay", ["lno1"]) == {"code": -32602, "message": "Invalid bolt11: it is bolt12 offer"}


def test_spark_is_told_the_transaction_that_closes_a_channel(spark: Lightningd) -> None:
    assert spark.call("close", ["ab" * 32])["txid"] == "new"


def test_node_that_is_starting_is_an_error_for_what_does_not_wait(spark: Lightningd) -> None:
    error = spark.call("listsendpays")
    assert error == {"code": -32603, "message": "The node does not answer: Connection refused"}
