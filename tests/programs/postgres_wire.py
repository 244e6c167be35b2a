# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of PostgreSQL with Python's standard library alone, for doubles: TLS, SCRAM-SHA-256, simple queries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
import threading
import time

#: what Npgsql takes, and these doubles of its users need
_KEYS = {
    "host",
    "port",
    "database",
    "user id",
    "password",
    "ssl mode",
    "root certificate",
    "application name",
    "maximum pool size",
}


class DatabaseError(Exception):
    """The server refused a statement; ``code`` is its SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


def parse_connection_string(text: str) -> dict[str, str]:
    """Its words by their names. Raises ValueError for what Npgsql refuses, and for what does not verify the server."""
    words = {}
    for part in text.split(";"):
        key, found, value = part.partition("=")
        if not found or key.strip().lower() not in _KEYS:
            raise ValueError(f"Couldn't set {key.strip().lower()}")
        words[key.strip().lower()] = value.strip()
    if words.get("ssl mode") != "VerifyFull" or not words.get("root certificate"):
        raise ValueError("the connection string does not verify the server")
    return words


def literal(value: object) -> str:
    """A value in a statement."""
    if value is None:
        return "NULL"
    return "'" + str(value).replace("'", "''") + "'"


class Database:
    """A connection that is made again when it is lost; one statement at a time."""

    def __init__(self, text: str) -> None:
        self._words = parse_connection_string(text)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def query(self, statement: str, patience: float = 60) -> list[list[str | None]]:
        """Rows of a statement, which may be run twice if the connection is lost. Raises DatabaseError and OSError."""
        end = time.monotonic() + patience
        with self._lock:
            while True:
                try:
                    if self._socket is None:
                        self._socket = self._connect()
                    self._send(b"Q", statement.encode() + b"\0")
                    return self._answer()
                except OSError:
                    self._close()
                    if time.monotonic() > end:
                        raise
                except DatabaseError as error:
                    # 57P…: it is shut down, or starts
                    if not error.code.startswith("57P") or time.monotonic() > end:
                        raise
                    self._close()
                time.sleep(0.3)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _connect(self) -> socket.socket:
        words = self._words
        plain = socket.create_connection((words["host"], int(words["port"])), 30)
        plain.sendall(struct.pack(">ii", 8, 80877103))
        if plain.recv(1) != b"S":
            plain.close()
            raise OSError("the server has no TLS")
        context = ssl.create_default_context(cafile=words["root certificate"])
        self._socket = context.wrap_socket(plain, server_hostname=words["host"])
        names = {"user": words["user id"], "database": words["database"]}
        body = b"".join(f"{key}\0{value}\0".encode() for key, value in names.items()) + b"\0"
        self._socket.sendall(struct.pack(">ii", len(body) + 8, 196608) + body)
        self._log_in()
        self._answer()
        return self._socket

    def _log_in(self) -> None:
        kind, body = self._receive()
        if kind != b"R" or struct.unpack(">i", body[:4])[0] != 10 or b"SCRAM-SHA-256\0" not in body:
            raise OSError("the server wants no SCRAM-SHA-256")
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = f"n=,r={nonce}"
        message = f"n,,{first}".encode()
        self._send(b"p", b"SCRAM-SHA-256\0" + struct.pack(">i", len(message)) + message)
        challenge = self._receive()[1][4:].decode()
        said = dict(word.split("=", 1) for word in challenge.split(","))
        salt, rounds = base64.b64decode(said["s"]), int(said["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._words["password"].encode(), salt, rounds)
        key = hmac.digest(salted, b"Client Key", "sha256")
        last = f"c=biws,r={said['r']}"
        signature = hmac.digest(
            hashlib.sha256(key).digest(), ",".join((first, challenge, last)).encode(), "sha256"
        )  # fmt: skip
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        self._send(b"p", f"{last},p={proof}".encode())
        self._receive()

    def _answer(self) -> list[list[str | None]]:
        rows, error = [], None
        while True:
            kind, body = self._receive(is_login=False)
            if kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                error = _error(body)
                if error.code.startswith("57P"):
                    raise error
            elif kind == b"Z":
                if error is not None:
                    raise error
                return rows

    def _send(self, kind: bytes, body: bytes) -> None:
        if self._socket is not None:
            self._socket.sendall(kind + struct.pack(">i", len(body) + 4) + body)

    def _receive(self, is_login: bool = True) -> tuple[bytes, bytes]:
        head = self._read(5)
        body = self._read(struct.unpack(">i", head[1:])[0] - 4)
        if is_login and head[:1] == b"E":
            raise _error(body)
        return head[:1], body

    def _read(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self._socket.recv(count - len(found)) if self._socket is not None else b""
            if not part:
                raise OSError("the server hung up")
            found += part
        return found


def _row(body: bytes) -> list[str | None]:
    values: list[str | None] = []
    at = 2
    for _unused in range(struct.unpack(">h", body[:2])[0]):
        (size,) = struct.unpack(">i", body[at : at + 4])
        at += 4
        values.append(None if size < 0 else body[at : at + size].decode())
        at += max(size, 0)
    return values


def _error(body: bytes) -> DatabaseError:
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    return DatabaseError(fields.get(b"C", ""), fields.get(b"M", ""))
