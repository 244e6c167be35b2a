# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""collector_bitcoind.py: write what happens in bitcoind.

bitcoind says it through ZeroMQ (``sequence``), each change in its order. What was missed, since one of the two was
away, follows from the block of the newest event, and from what bitcoind's RPC says of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import zmq
from bcm_guest.prove import Endpoint, Fault, http_request
from collector_topic import Broker, Source, Topic, now, run

#: how long bitcoind is believed when it says nothing
_SILENCE = 10_000  # milliseconds
_BATCH = 200
#: how often it is asked what it does not say by itself
_MINUTE = timedelta(minutes=1)
_NO_BLOCK = "0" * 64
#: of what is seen as it happens, and of what the header of a block says (validation.cpp, MAX_FUTURE_BLOCK_TIME)
_SECOND, _HEADER = timedelta(seconds=1), timedelta(hours=2)
#: RPC_INVALID_ADDRESS_OR_KEY, for a block that bitcoind does not have
_UNKNOWN = -5


class Unknown(Fault):
    """bitcoind does not have a block."""


class Node:
    """bitcoind's RPC."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._place = Endpoint.of(settings["needs"]["rpc"])
        self._credentials = f"collector:{settings['secrets']['rpc']}"

    def ask(self, method: str, *params: Any) -> Any:
        """The result of a call. Raises Fault."""
        return self.ask_each(method, [params])[0]

    def ask_each(self, method: str, each: Iterable[tuple[Any, ...]]) -> list[Any]:
        """The results of a call with each of some parameters. Raises Fault."""
        calls = [{"id": number, "method": method, "params": params} for number, params in enumerate(each)]
        status, text = http_request(self._place, "POST", "/", json.dumps(calls), self._credentials)
        try:
            answers = sorted(json.loads(text), key=lambda answer: answer["id"])
            errors = [answer["error"] for answer in answers if answer.get("error")]
            if errors:
                raise (Unknown if errors[0]["code"] == _UNKNOWN else Fault)(f"{method}: {errors[0]['message']}")
            return [answer["result"] for answer in answers]
        except (ValueError, TypeError, KeyError) as error:
            raise Fault(f"bitcoind answers {method} with status {status}") from error

    def headers(self, hashes: Iterable[str]) -> list[dict[str, Any]]:
        """The headers of blocks. Raises Fault."""
        return self.ask_each("getblockheader", [(name,) for name in hashes])


class Blocks:
    """The blocks of the topic, and how they follow those of bitcoind."""

    def __init__(self, node: Node, topic: Topic, most: int) -> None:
        self._node, self._topic, self._most = node, topic, most
        self._version = ""
        newest = topic.newest()
        #: the newest block of the chain that the events make; None before the first event
        self.tip: str | None = None
        self._depth, self._seen = 0, now()
        if newest:
            is_connected = newest["change"] == "connected"
            self.tip = newest["block"] if is_connected else newest["previous"]
            self._depth = 0 if is_connected else newest["depth"]
            self._seen = newest["event"]["time"]

    def catch_up(self) -> None:
        """Write all that has happened since the newest event. Raises Fault."""
        self._version = self._node.ask("getnetworkinfo")["subversion"]
        while True:
            best = self._node.ask("getblockchaininfo")
            if best["bestblockhash"] == self.tip:
                self._seen = now()
                return
            height = self._find_fork(best["blocks"])
            for first in range(height, best["blocks"] + 1, _BATCH):
                numbers = range(first, min(first + _BATCH, best["blocks"] + 1))
                headers = self._node.headers(self._node.ask_each("getblockhash", [(number,) for number in numbers]))
                for header in headers:
                    if not self._follows(header):
                        break  # the chain has changed meanwhile
                    self._connect(header, is_live=False)

    def hear(self, name: str, change: bytes) -> None:
        """Write what bitcoind says of a block as it happens: C for connected, D for disconnected. Raises Fault."""
        if change not in (b"C", b"D"):
            return
        (header,) = self._node.headers([name])
        if change == b"C" and self._follows(header):
            self._connect(header, is_live=True)
        elif change == b"D" and name == self.tip:
            self._disconnect(header, _SECOND)
        else:
            self.catch_up()

    def _find_fork(self, best: int) -> int:
        """The height of the first block to connect, once all are disconnected that bitcoind has left."""
        while self.tip is not None:
            try:
                (header,) = self._node.headers([self.tip])
            except Unknown:
                # Another chain than that of the events, as after its data was deleted.
                self.tip = None
                break
            if header["confirmations"] >= 0:
                return header["height"] + 1
            self._disconnect(header, now() - self._seen)
        return max(0, best - self._most + 1)

    def _follows(self, header: Mapping[str, Any]) -> bool:
        return self.tip is None or header.get("previousblockhash") == self.tip

    def _connect(self, header: Mapping[str, Any], is_live: bool) -> None:
        mined = datetime.fromtimestamp(header["time"], UTC)
        when, precision = (now(), _SECOND) if is_live else (mined, _HEADER)
        self._write("connected", header, when, precision, reported=not is_live)
        self.tip, self._depth = header["hash"], 0

    def _disconnect(self, header: Mapping[str, Any], precision: timedelta) -> None:
        self._depth += 1
        self._write("disconnected", header, now(), precision, reported=False)
        self.tip = header["previousblockhash"]

    def _write(
        self, change: str, header: Mapping[str, Any], when: datetime, precision: timedelta, reported: bool
    ) -> None:
        body = {
            "change": change,
            "block": header["hash"],
            "previous": header.get("previousblockhash", _NO_BLOCK),
            "height": header["height"],
            "block_time": datetime.fromtimestamp(header["time"], UTC),
            "transactions": header["nTx"],
            "depth": self._depth,
        }
        self._topic.write(header["hash"], body, self._version, when, precision, reported)


class Figures:
    """What bitcoind is asked each minute: of mempool and peers always, of its warnings if they are other ones."""

    def __init__(self, node: Node, mempool: Topic, peers: Topic, warnings: Topic) -> None:
        self._node, self._mempool, self._peers, self._warnings = node, mempool, peers, warnings
        mempool.newest()
        peers.newest()
        newest = warnings.newest()
        self._known = newest["warnings"] if newest else []
        self._next = now()

    def look(self) -> None:
        """Write what there is, if it is time. Raises Fault."""
        if now() < self._next:
            return
        self._next = now() + _MINUTE
        network, mempool = self._node.ask("getnetworkinfo"), self._node.ask("getmempoolinfo")
        self._mempool.write("mempool", _mempool(mempool), network["subversion"], now(), _SECOND)
        peers = {"inbound": network["connections_in"], "outbound": network["connections_out"]}
        self._peers.write("peers", peers, network["subversion"], now(), _SECOND)
        # A text before version 28
        told = network["warnings"] if isinstance(network["warnings"], list) else [network["warnings"]]
        warnings = [text for text in told if text]
        if warnings != self._known:
            self._warnings.write("warnings", {"warnings": warnings}, network["subversion"], now(), _MINUTE)
            self._known = warnings


def _mempool(said: Mapping[str, Any]) -> dict[str, int]:
    return {
        "transactions": said["size"],
        "size": said["bytes"],
        "fees": _satoshi(said["total_fee"]),
        "memory": said["usage"],
        "minimum_fee": _satoshi(said["mempoolminfee"]),
    }


def _satoshi(bitcoins: float) -> int:
    """bitcoind writes amounts in bitcoins, with eight digits; a float has fifteen or more."""
    return round(bitcoins * 100_000_000)


class Bitcoind(Source):
    """What is written of bitcoind."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, "bitcoind", "block", "mempool", "peers", "warning")
        self._node, self._most = Node(settings), settings["blocks"]
        self._socket = zmq.Context(io_threads=1).socket(zmq.SUB)
        self._socket.connect(f"tcp://{Endpoint.of(settings['needs']['zmqsequence'])}")
        self._socket.subscribe(b"sequence")
        self._expected: int | None = None

    def begin(self) -> None:
        blocks, *figures = self.topics
        self._blocks, self._figures = Blocks(self._node, blocks, self._most), Figures(self._node, *figures)
        self._blocks.catch_up()
        self._figures.look()

    def step(self) -> None:
        if not self._socket.poll(_SILENCE):
            self._blocks.catch_up()
        else:
            _topic, text, counter = self._socket.recv_multipart()
            number = int.from_bytes(counter, "little")
            if self._expected in (None, number):
                self._blocks.hear(text[:32].hex(), text[32:33])
            else:
                self._blocks.catch_up()
            self._expected = (number + 1) % 2**32
        self._figures.look()


def show(_settings: Mapping[str, Any], broker: Broker) -> dict[str, Any] | None:
    """The newest event of a block."""
    return Topic("bitcoind.block", broker, "bitcoind").newest()


if __name__ == "__main__":
    run("bitcoind", Bitcoind)
