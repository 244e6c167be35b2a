# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON-RPC of lightningd on its unix socket, for programs in its instance: ``bcm_guest.clightning``.

Source: https://docs.corelightning.org/reference
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

from .prove import Fault, Refused

_TIMEOUT = 60.0  # seconds for one answer
#: What ends an answer.
_END = b"\n\n"


class Lightningd:
    """The lightningd of this instance. ``directory`` is the one of its network."""

    def __init__(self, directory: str) -> None:
        self._path = f"{directory}/lightning-rpc"

    def call(self, method: str, **params: Any) -> Any:
        """Result of a call. Raises Fault if nothing answers, Refused if the answer is an error."""
        request = {"jsonrpc": "2.0", "id": "bcm", "method": method, "params": params}
        try:
            answer = json.loads(self._exchange(json.dumps(request).encode()))
        except (OSError, ValueError) as error:
            raise Fault(f"nothing answers at {self._path}: {error!r}") from error
        if "result" not in answer:
            refusal = answer["error"]
            raise Refused(f"it answers {method} with an error: {refusal['message']}", refusal["code"])
        return answer["result"]

    def info(self) -> dict[str, Any]:
        """What it says of itself: its key, its addresses, its height. Raises Fault."""
        return dict(self.call("getinfo"))

    def _exchange(self, request: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_TIMEOUT)
            connection.connect(self._path)
            connection.sendall(request)
            answer = b""
            while not answer.endswith(_END):
                if not (more := connection.recv(65536)):
                    break
                answer += more
            return answer


def addresses(info: Mapping[str, Any]) -> list[str]:
    """What it announces to other nodes, each as ``host:port``."""
    return [f"{item['address']}:{item['port']}" for item in info.get("address", [])]
