# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What verify programs share: the loop with a deadline, and the protocols that stacks speak."""

from __future__ import annotations

import io
import json
import socket
import socketserver
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import prove as guest
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import (
    Consumer,
    Credentials,
    Endpoint,
    Fault,
    Lasting,
    Refused,
    Report,
    Stack,
    Waiting,
    electrum,
    http_request,
    json_rpc,
    make_credentials,
    prove,
)

BCM = {
    "stack": "echo",
    "address": "10.0.0.2",
    "services": {"http": {"port": 8443, "tls": "server", "listen": "127.0.0.1"},
                 "raw": {"port": 7, "tls": None, "listen": "10.0.0.2"}},
    "needs": {"bitcoind": {"rpc": {"address": "10.0.0.3", "port": 18443, "tls": None}}},
}  # fmt: skip


@pytest.fixture
def proved(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `prove` prints or fails with, with a deadline of that many looks."""

    def run(look: Any, looks: int = 3, ask: Any = prove, **more: Any) -> Any:
        clock = iter(range(100))
        monkeypatch.setattr(guest.time, "monotonic", lambda: float(next(clock)))
        monkeypatch.setattr(guest.time, "sleep", lambda _seconds: None)
        request = {"bcm": BCM, "secrets": {"bitcoind/rpc/echo": "pass"}, "expected": {"a": 1}, "deadline": looks - 1}
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps({**request, **more})))
        ask(look)
        return json.loads(capsys.readouterr().out)

    return run


def test_stack_says_where_services_are_and_what_the_secrets_are(proved: Any) -> None:
    def look(stack: Stack) -> Report:
        found = [str(stack.service("http")), str(stack.service("raw")), str(stack.need("bitcoind", "rpc"))]
        facts = {"a": stack.expected["a"], "tls": stack.service("http").tls}
        return Report(facts, [*found, stack.secret("bitcoind", "rpc")])

    notes = ["10.0.0.2:8443", "10.0.0.2:7", "10.0.0.3:18443", "pass"]
    assert proved(look) == {"facts": {"a": 1, "tls": True}, "notes": notes, "warnings": []}


def test_certificate_is_shown_to_others_that_want_one_and_not_to_itself() -> None:
    mutual = {"port": 8443, "tls": "mutual"}
    bcm = {
        "address": "10.0.0.2",
        "services": {"http": {**mutual, "listen": "127.0.0.1"}},
        "needs": {"web": {"http": {**mutual, "address": "10.0.0.3"}}},
    }
    stack = Stack(bcm, {}, {})
    assert stack.service("http") == Endpoint("127.0.0.1", 8443)
    assert stack.need("web", "http") == Endpoint("10.0.0.3", 8443, tls=True, mutual=True)


def test_service_that_speaks_tls_itself_is_verified_by_itself_and_by_others() -> None:
    own = {"port": 8080, "tls": "own"}
    bcm = {
        "address": "10.0.0.2",
        "services": {"rest": {**own, "listen": "10.0.0.2"}},
        "needs": {"lnd": {"rest": {**own, "address": "10.0.0.3"}}},
    }
    stack = Stack(bcm, {}, {})
    assert stack.service("rest") == Endpoint("10.0.0.2", 8080, tls=True)
    assert stack.need("lnd", "rest") == Endpoint("10.0.0.3", 8080, tls=True)


@pytest.mark.parametrize("fault", [Fault("not yet"), ConnectionRefusedError("not yet")])
def test_fault_that_time_mends_is_looked_at_again(proved: Any, fault: Exception) -> None:
    faults = [fault, fault]

    def look(_stack: Stack) -> Report:
        if faults:
            raise faults.pop()
        return Report(notes=["done"])

    assert proved(look)["notes"] == ["done"]


@pytest.mark.parametrize(("fault", "looks"), [(Fault, 3), (Lasting, 1)])
def test_fault_ends_the_program_at_the_deadline_or_at_once(proved: Any, fault: type[Fault], looks: int) -> None:
    seen = []

    def look(_stack: Stack) -> Report:
        seen.append(1)
        raise fault("it is broken")

    with pytest.raises(SystemExit, match="^echo: it is broken$"):
        proved(look)
    assert len(seen) == looks


def test_waiting_for_another_stack_is_a_warning_at_the_deadline(proved: Any) -> None:
    def look(_stack: Stack) -> Report:
        raise Waiting("bitcoind has 3 % of its blocks")

    assert proved(look) == {"facts": {}, "notes": [], "warnings": ["bitcoind has 3 % of its blocks"]}


def test_what_is_known_of_a_stack_that_waits_is_reported(proved: Any) -> None:
    def look(_stack: Stack) -> Report:
        raise Waiting("a target has not answered", Report({"height": 3}, ["one"], ["another is away"]))

    warnings = ["another is away", "a target has not answered"]
    assert proved(look) == {"facts": {"height": 3}, "notes": ["one"], "warnings": warnings}


MAKING = {
    "ask": make_credentials,
    "consumers": {"shop": {"address": "10.0.0.4", "services": ["http"], "permissions": {"may": ["pay"]}}},
}


@pytest.mark.parametrize("check", [False, True])
def test_credentials_are_made_for_the_consumers_once_there_is_no_fault(proved: Any, check: bool) -> None:
    faults = [Fault("it starts")]

    def make(stack: Stack, consumers: Any, is_check: bool) -> Credentials:
        if faults:
            raise faults.pop()
        assert (stack.name, is_check) == ("echo", check)
        assert consumers == {"shop": Consumer(["http"], {"may": ["pay"]})}
        return Credentials({"shop": {"http": "token"}}, changed=True)

    answer = proved(make, check=check, **MAKING)
    assert answer == {"credentials": {"shop": {"http": "token"}}, "changed": True}


@pytest.mark.parametrize(("fault", "looks"), [(Fault, 3), (Waiting, 3), (Lasting, 1)])
def test_fault_ends_the_making_of_credentials(proved: Any, fault: type[Fault], looks: int) -> None:
    seen = []

    def make(_stack: Stack, consumers: Any, _check: bool) -> Credentials:
        seen.append(1)
        raise fault(f"{next(iter(consumers))} asks for too much")

    with pytest.raises(SystemExit, match="^echo: shop asks for too much$"):
        proved(make, check=False, **MAKING)
    assert len(seen) == looks


def test_requests_are_sent_without_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address, port = server.getsockname()
        with Endpoint(address, port).connect() as connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_mistake_in_a_program_is_not_repeated_until_the_deadline(proved: Any) -> None:
    with pytest.raises(KeyError):
        proved(lambda stack: Report(notes=[stack.expected["b"]]))


USER = b64encode(b"user:pass").decode()


class Rpc(BaseHTTPRequestHandler):
    """Answers JSON-RPC as bitcoind does: 401 for a stranger, 403 and no body for a call that is not allowed."""

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, body = 200, json.dumps({"result": request["params"], "error": None, "id": 0})
        known = self.headers.get("Rune") == "rune" or self.headers.get("Authorization") == f"Basic {USER}"
        if not known:
            status, body = 401, ""
        elif request["method"] == "stop":
            status, body = 403, ""
        elif request["method"] == "wait":
            status, body = 500, json.dumps({"result": None, "error": {"code": -28, "message": "Loading block index"}})
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_args: Any) -> None:
        pass


class UnixServer(HTTPServer):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[Any]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(params=["tcp", "unix"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint | str]:
    """Where an RPC server listens."""
    if request.param == "tcp":
        with serving(HTTPServer(("127.0.0.1", 0), Rpc)) as (address, port):
            yield Endpoint(address, port)
    else:
        path = str(tmp_path / "rpc")
        with serving(UnixServer(path, Rpc)):  # type: ignore[arg-type]
            yield path


def test_json_rpc_returns_the_result(place: Endpoint | str) -> None:
    assert json_rpc(place, "getinfo", {"a": 1}, "user:pass") == {"a": 1}


def test_headers_are_sent_in_place_of_a_password_or_beside_it(place: Endpoint | str) -> None:
    assert json_rpc(place, "getinfo", {"a": 1}, headers={"Rune": "rune"}) == {"a": 1}
    assert json_rpc(place, "getinfo", {"a": 1}, "user:pass", {"Rune": "other"}) == {"a": 1}
    with pytest.raises(Refused):
        json_rpc(place, "getinfo", headers={"Rune": "other"})


@pytest.mark.parametrize(
    ("method", "credentials", "status", "said"),
    [
        ("getinfo", "", 401, "status 401"),
        ("getinfo", "user:wrong", 401, "status 401"),
        ("stop", "user:pass", 403, "status 403"),
        ("wait", "user:pass", 500, "Loading block index"),
    ],
)
def test_json_rpc_says_why_a_call_is_refused(
    place: Endpoint | str, method: str, credentials: str, status: int, said: str
) -> None:
    with pytest.raises(Refused, match=f"{place} answers {method} with an error: {said}") as raised:
        json_rpc(place, method, credentials=credentials)
    assert raised.value.status == status


def test_slow_answer_is_awaited_as_long_as_the_caller_has_patience(tmp_path: Path) -> None:
    answers = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.wait()
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Slow)) as (address, port):
        with pytest.raises(Fault, match=r"nothing answers at 127.0.0.1:\d+: TimeoutError"):
            http_request(Endpoint(address, port), patience=0.1)
        threading.Timer(0.3, answers.set).start()
        assert http_request(Endpoint(address, port), patience=30) == (200, "")


def test_nothing_that_listens_is_a_fault(tmp_path: Path) -> None:
    for place in (Endpoint("127.0.0.1", 9), str(tmp_path / "no")):
        with pytest.raises(Fault, match="nothing answers at"):
            http_request(place)
    with pytest.raises(Fault, match="nothing answers at 127.0.0.1:9"):
        electrum(Endpoint("127.0.0.1", 9))


class Electrum(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            request = json.loads(line)
            if request["method"] == "hang up":
                return
            known = {"server.version": ["server", "1.4"], "blockchain.headers.subscribe": {"height": 7}}
            answer = {"result": known[request["method"]]} if request["method"] in known else {"error": "unknown method"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def test_electrum_agrees_on_a_version_first_and_returns_results() -> None:
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Electrum)) as (address, port):
        server = Endpoint(address, port)
        assert electrum(server, ("blockchain.headers.subscribe", [])) == [{"height": 7}]
        for method, said in (("no", "unknown method"), ("hang up", "it hung up")):
            with pytest.raises(Fault, match=f"{server} answers {method} with {said}"):
                electrum(server, (method, []))


def test_main_process_is_one_that_systemd_names_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAINPID", raising=False)
    assert not guest.has_main_process_ended()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        monkeypatch.setenv("MAINPID", str(process.pid))
        assert not guest.has_main_process_ended()
    assert guest.has_main_process_ended()
