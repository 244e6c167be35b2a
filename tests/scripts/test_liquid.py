# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is verified of Elements, and when its double ends as the real one does. tests/e2e has the real one."""

from __future__ import annotations

import base64
import contextlib
import json
import runpy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bcm_guest.prove import Fault, Lasting, Report, Stack

from ansible_collections.bcm.core.plugins.filter.rpcauth import rpcauth
from tests import liquid, tornet
from tests.support import COLLECTION, until

VERIFY = COLLECTION / "roles/liquid/scripts/verify.py"
RECORDED = json.loads(liquid.RECORDINGS.read_text())
PARENT = json.loads(RECORDED["rpc"]["getsidechaininfo"]["body"])["result"]["parent_blockhash"]
SHOP = {"services": ["rpc"], "permissions": {"rpc_calls": ["getblockcount"]}}
#: the user of a stack, as the role writes it
USER = (f"rpcauth={rpcauth('own', 'shop')}", "rpcwhitelist=shop:getblockcount")


class Bitcoind(BaseHTTPRequestHandler):
    """Answers those with the password, as far as Elements asks."""

    first = PARENT

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        allowed = self.headers["Authorization"] == f"Basic {base64.b64encode(b'liquid:password').decode()}"
        result = {"getnetworkinfo": {"version": 290300}, "getblockhash": self.first}[asked["method"]]
        body = json.dumps({"result": result, "error": None, "id": asked["id"]}).encode() if allowed else b""
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def bitcoind() -> Iterator[int]:
    """Its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Bitcoind,), {}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


Start = Callable[..., contextlib.AbstractContextManager["Node"]]


class Node:
    """The double while it runs."""

    def __init__(self, programs: Path, config: Path, stack: Stack) -> None:
        self._programs, self._config, self.stack = programs, config, stack

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        words = (sys.executable, str(self._programs / "elements-cli"), f"-conf={self._config}", *words)
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def look(self, monkeypatch: pytest.MonkeyPatch) -> Report:
        monkeypatch.setattr("bcm_guest.prove.prove", lambda look: None)
        report: Report = runpy.run_path(str(VERIFY))["look"](self.stack)
        return report


@pytest.fixture
def start(tmp_path: Path, bitcoind: int) -> Start:
    """What starts it with the options of the role, and others in their place."""

    @contextlib.contextmanager
    def running(given: tuple[str, ...] = (), **other: str) -> Iterator[Node]:
        liquid.pin(tmp_path)
        (archive,) = tmp_path.glob("liquid/*/elements.tar")
        subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
        programs = next(tmp_path.glob("elements-*/bin"))
        port, ready = tornet.free_port(), tmp_path / "ready"
        options = {
            "proxy": "10.0.0.1:9050", "rpcbind": f"127.0.0.1:{port}", "startupnotify": f"touch {ready}",
            "validatepegin": "1", "mainchainrpchost": "127.0.0.1", "mainchainrpcport": str(bitcoind),
            "mainchainrpcuser": "liquid", "mainchainrpcpassword": "password", **other,
        }  # fmt: skip
        config = tmp_path / "elements.conf"
        lines = [*(f"{name}={value}" for name, value in options.items()), *given]
        chain = RECORDED["chain"]
        config.write_text("\n".join([f"chain={chain}", f"datadir={tmp_path}", f"[{chain}]", *lines, ""]))
        said = tmp_path / "said"
        with said.open("w") as file:
            process = subprocess.Popen([sys.executable, programs / "elementsd", f"-conf={config}"], stderr=file)
        try:
            until(lambda: ready.exists() or process.poll() is not None, "it is ready, or has ended")
            if process.poll() is not None:
                raise Fault(said.read_text())
            places = {"socks": ("10.0.0.1", 9050), "rpc": ("127.0.0.1", bitcoind)}
            services = {
                name: {"address": address, "port": number, "tls": None, "protocol": "tcp"}
                for name, (address, number) in places.items()
            }
            own = {"listen": "127.0.0.1", "port": port, "tls": None, "protocol": "tcp"}
            bcm = {
                "stack": "liquid",
                "services": {"rpc": own},
                "consumers": {"shop": SHOP},
                "volumes": {"data": {"path": str(tmp_path)}},
                "needs": {"tor": {"socks": services["socks"]}, "bitcoind": {"rpc": services["rpc"]}},
            }
            secrets = {"bitcoind/rpc/liquid": "password", "liquid/rpc/shop": "own"}
            yield Node(programs, config, Stack(bcm, secrets, {"chain": chain}))
        finally:
            process.terminate()
            process.wait()

    return running


def test_node_on_its_chain_is_as_it_should_be(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(USER) as node:
        report = node.look(monkeypatch)
    assert report.facts == {"height": 0}
    assert report.notes == ["elementsregtest at height 0"]


def test_node_past_the_proxy_is_a_fault(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        start(USER, proxy="10.0.0.9:9050") as node,
        pytest.raises(Lasting, match=r"ipv4 is reachable past the proxy, through \"10.0.0.9:9050\""),
    ):
        node.look(monkeypatch)


def test_user_that_cannot_log_in_is_a_fault(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    with start() as node, pytest.raises(Lasting, match=r"user shop cannot log in \(status 401\)"):
        node.look(monkeypatch)


def test_double_ends_without_bitcoind(start: Start) -> None:
    with (
        pytest.raises(Fault, match="cannot get a valid response from the mainchain daemon"),
        start(mainchainrpcpassword="guessed"),
    ):
        pass


def test_double_answers_its_command(start: Start) -> None:
    with start() as node:
        assert node.command("getblockcount").stdout == "0\n"
        done = node.command("unheardof")
    assert (done.returncode, done.stderr) == (89, "error code: -32601\nerror message:\nMethod not found\n")
