# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""collector_electrs.py: write up to which block electrs has its index.

electrs says it on a connection of the Electrum protocol, at once and whenever it changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bcm_guest.prove import Endpoint, Fault
from collector_topic import Broker, Source, Topic, now, run

#: after so long without a word, it is asked again
_SILENCE = 60.0  # seconds
_SECOND = timedelta(seconds=1)
#: when nothing is known of the time before
_LONG_AGO = datetime(2009, 1, 3, tzinfo=UTC)


class Server:
    """A connection to electrs."""

    def __init__(self, place: Endpoint) -> None:
        self._place = place
        self._connection: socket.socket | None = None
        self._stream: Any = None
        self.version = ""
        #: whether what it said last was the answer to a question, and not news
        self.was_asked = False

    def listen(self) -> tuple[str, int] | None:
        """Hash and height of the newest block that it has, when it says so; None if it says nothing. Raises Fault."""
        try:
            self.was_asked = self._connection is None
            tip = self._subscribe() if self.was_asked else json.loads(self._stream.readline())["params"][0]
            return _hash(tip["hex"]), int(tip["height"])
        except TimeoutError:
            self.close()
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.close()
            raise Fault(f"electrs does not say what it has: {error!r}") from error

    def _subscribe(self) -> Any:
        self._connection = self._place.connect()
        self._connection.settimeout(_SILENCE)
        self._stream = self._connection.makefile("rw")
        self.version = str(self._call("server.version", ["collector", "1.4"])[0])
        return self._call("blockchain.headers.subscribe", [])

    def _call(self, method: str, params: list[str]) -> Any:
        self._stream.write(json.dumps({"id": 0, "method": method, "params": params}) + "\n")
        self._stream.flush()
        return json.loads(self._stream.readline())["result"]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        # As long as this is open, the connection is.
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None


class Index(Source):
    """What is written of electrs."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__(settings, "electrs", "index")
        self._server = Server(Endpoint.of(settings["needs"]["electrum"]))

    def begin(self) -> None:
        newest = self.topics[0].newest()
        self._block = newest["block"] if newest else ""
        self._seen = newest["event"]["time"] if newest else _LONG_AGO

    def step(self) -> None:
        tip = self._server.listen()
        if tip is None:
            return
        block, height = tip
        if block != self._block:
            precision = now() - self._seen if self._server.was_asked else _SECOND
            body = {"block": block, "height": height}
            self.topics[0].write(block, body, self._server.version, now(), precision)
            self._block = block
        self._seen = now()


def _hash(header: str) -> str:
    """The hash of a block, as bitcoind writes it."""
    return hashlib.sha256(hashlib.sha256(bytes.fromhex(header)).digest()).digest()[::-1].hex()


def show(_settings: Mapping[str, Any], broker: Broker) -> dict[str, Any] | None:
    """The newest event."""
    return Topic("electrs.index", broker, "electrs").newest()


if __name__ == "__main__":
    run("electrs", Index)
