# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON-RPC of lightningd on its unix socket, for programs in its instance: ``bcm_guest.clightning``.

Source: https://docs.corelightning.org/reference
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .prove import Fault, Refused

_TIMEOUT = 60.0  # seconds for one answer
#: What ends an answer.
_END = b"\n\n"
# Of the states of channels in the database: not saved yet, and over.
_NOT_OPEN = "(1, 9, 10, 14)"
_CHANNELS = f"""
SELECT hex(funding_tx_id) AS txid, funding_tx_outnum, funding_satoshi, msatoshi_local, hex(peers.node_id) AS peer,
       in_payments_offered + out_payments_offered AS payments
FROM channels LEFT JOIN peers ON peers.id = channels.peer_id WHERE state NOT IN {_NOT_OPEN}
"""


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


def become(user: str) -> None:
    """Work as the user of a service from now on: in its volumes, it could lead root elsewhere by links."""
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.umask(0o077)


class Database:
    """A database of lightningd, or a replica of one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, key: str, seen: int, connection: sqlite3.Connection) -> None:
        """Check that it is whole, of the node with that key, and not older than `seen`. Raises Fault, sqlite3.Error."""
        (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            raise Fault(f"its replica {self._path} is damaged: {sound}")
        (version,) = connection.execute("SELECT intval FROM vars WHERE name = 'data_version'").fetchone()
        (node,) = connection.execute("SELECT blobval FROM vars WHERE name = 'node_id'").fetchone()
        if node.hex() != key:
            raise Fault(
                f"its replica {self._path} is of another node: {node.hex()}, not {key}; put the right one there"
            )
        if version < seen:
            raise Fault(
                f"its replica {self._path} is an old copy: it has {version} changes, and the node has made {seen}. "
                "Starting with it would lose the channels; put the newest one there, or remove it and have the "
                "channels closed"
            )

    def copy(self, target: Path, key: str, seen: int) -> None:
        """Copy it, if it is as `check` wants it, and nobody uses it, here or in another instance. Raises Fault."""
        try:
            with (
                contextlib.closing(self._opened()) as source,
                contextlib.closing(sqlite3.connect(target)) as copy,
            ):
                source.execute("BEGIN EXCLUSIVE").close()
                source.rollback()
                source.backup(copy)
                self.check(key, seen, copy)
        except (sqlite3.Error, TypeError) as error:
            raise self._fault(error) from error

    def channels(self, key: str, seen: int) -> dict[str, dict[str, Any]]:
        """The channels that are not closed yet, by their points, if it is as `check` wants it. Raises Fault."""
        try:
            with contextlib.closing(self._opened()) as connection:
                self.check(key, seen, connection)
                rows = connection.execute(_CHANNELS).fetchall()
        except (sqlite3.Error, TypeError) as error:
            raise self._fault(error) from error
        return {
            f"{bytes.fromhex(txid)[::-1].hex()}:{output}": {
                "public_key": peer.lower(), "capacity": capacity, "local": local // 1000, "payments": payments,
            }
            for txid, output, capacity, local, peer, payments in rows
        }  # fmt: skip

    def node(self) -> str:
        """The public key of its node. Raises Fault."""
        try:
            with contextlib.closing(self._opened()) as connection:
                (node,) = connection.execute("SELECT blobval FROM vars WHERE name = 'node_id'").fetchone()
        except (sqlite3.Error, TypeError) as error:
            raise self._fault(error) from error
        return str(node.hex())

    def height(self) -> int:
        """The height of the newest block that it knows; 0 if there is none. Raises Fault."""
        try:
            with contextlib.closing(self._opened()) as connection:
                (height,) = connection.execute("SELECT MAX(height) FROM blocks").fetchone()
        except sqlite3.Error as error:
            raise self._fault(error) from error
        return int(height or 0)

    def _opened(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self._path.as_uri()}?mode=rw", uri=True, timeout=5)

    def _fault(self, error: Exception) -> Fault:
        why = "another lightningd uses it: end that one first" if "locked" in str(error) else str(error)
        return Fault(f"its replica {self._path} cannot be restored: {why}")


def addresses(info: Mapping[str, Any]) -> list[str]:
    """What it announces to other nodes, each as ``host:port``."""
    return [f"{item['address']}:{item['port']}" for item in info.get("address", [])]
