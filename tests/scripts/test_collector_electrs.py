# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role collector writes of electrs, with a server of the tests. tests/e2e has the real one."""

from __future__ import annotations

import contextlib
import importlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault
from tests.scripts.test_collector import KNOWN, Broker, broker

__all__ = ["broker"]

#: of the first block of mainnet
HEADER = (
    "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a"
    "9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c"
)
GENESIS = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f"


class Electrs:
    """A server of one client, which has the block with a height; its header differs in the last byte."""

    def __init__(self) -> None:
        self.height = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._client: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def tip(self) -> dict[str, Any]:
        return {"height": self.height, "hex": f"{HEADER[:-2]}{int(HEADER[-2:], 16) + self.height:02x}"}

    def _serve(self) -> None:
        while True:
            try:
                self._client, _address = self._listener.accept()
            except OSError:
                return
            answers = {"server.version": lambda: ["electrs/0.11.1", "1.4"], "blockchain.headers.subscribe": self.tip}
            for line in self._client.makefile():
                self._send({"id": 0, "result": answers[json.loads(line)["method"]]()})

    def _send(self, message: dict[str, Any]) -> None:
        assert self._client is not None
        self._client.sendall(json.dumps(message).encode() + b"\n")

    def index(self) -> None:
        """Index the next block, and tell."""
        self.height += 1
        self._send({"method": "blockchain.headers.subscribe", "params": [self.tip()]})

    def hang_up(self) -> None:
        assert self._client is not None
        self._client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the thread before its sockets: it would go on with those that get their numbers."""
        self._listener.shutdown(socket.SHUT_RDWR)
        if self._client is not None:
            with contextlib.suppress(OSError):  # the client has gone
                self._client.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        if self._client is not None:
            self._client.close()


@pytest.fixture
def electrs() -> Iterator[Electrs]:
    electrs = Electrs()
    yield electrs
    electrs.close()


def collector(electrs: Electrs) -> Any:
    """A collector that was just started."""
    place = {"address": "127.0.0.1", "port": electrs.port, "tls": None}
    settings = {
        "client": {"sasl.username": "collector"}, "schemas": KNOWN, "datacenter": "a", "chain": "regtest",
        "hosts": {"electrs": "box"}, "needs": {"electrum": place}, "secrets": {},
    }  # fmt: skip
    source = importlib.import_module("collector_electrs").Index(settings)
    source.begin()
    return source


def heights(broker: Broker) -> list[int]:
    return [event["height"] for event in broker.events("electrs.index")]


def test_newest_block_is_written_whenever_it_is_another_one(broker: Broker, electrs: Electrs) -> None:
    source = collector(electrs)
    source.step()
    for _block in range(2):
        electrs.index()
        source.step()
    assert heights(broker) == [0, 1, 2]
    first, second, _third = broker.events("electrs.index")
    assert (first["block"], first["event"]["version"]) == (GENESIS, "electrs/0.11.1")
    assert second["event"]["time_precision"] == 1_000_000 < first["event"]["time_precision"]
    again = collector(electrs)
    source._server.close()
    again.step()
    assert heights(broker) == [0, 1, 2]


def test_server_that_hangs_up_is_asked_again(broker: Broker, electrs: Electrs) -> None:
    source = collector(electrs)
    source.step()
    electrs.hang_up()
    with pytest.raises(Fault, match="electrs does not say what it has"):
        source.step()
    electrs.height = 5
    source.step()
    assert heights(broker) == [0, 5]


@pytest.mark.parametrize("tip", [None, {}, {"height": 1}, {"height": 1, "hex": "no header"}, {"hex": HEADER}, [], 7])
def test_answer_of_another_form_is_a_fault(
    broker: Broker, electrs: Electrs, monkeypatch: pytest.MonkeyPatch, tip: Any
) -> None:
    monkeypatch.setattr(electrs, "tip", lambda: tip)
    source = collector(electrs)
    with pytest.raises(Fault, match="electrs does not say what it has"):
        source.step()
    assert heights(broker) == []


def test_server_that_says_nothing_is_asked_again(
    broker: Broker, electrs: Electrs, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = collector(electrs)
    monkeypatch.setattr(importlib.import_module("collector_electrs"), "_SILENCE", 0.2)
    source.step()
    electrs.height = 3
    source.step()
    source.step()
    assert heights(broker) == [0, 3]
