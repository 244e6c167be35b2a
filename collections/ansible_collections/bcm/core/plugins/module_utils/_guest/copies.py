# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that keep copies of backups, reached through Tor: SSH, and stores that speak S3. ``bcm_guest.copies``.

Names of copies are ``<data center>-<chain>-<stack>-<time>.age``: of equal beginnings, the last one is the newest. A
copy never takes the place of another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import io
import re
import socket
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from .prove import Endpoint, Fault

SETTINGS = Path("/etc/backups/settings.json")
#: the copies that this instance has itself, and what became of them
COPIES, STATE = Path("/var/lib/backups/copies"), Path("/var/lib/backups/state.json")
_KEY, _KNOWN_HOSTS = "/etc/backups/ssh_key", "/etc/backups/known_hosts"
_PROGRAM = "/usr/local/lib/backups_unit.py"
# The sandbox puts the data center's root in the place of these.
_PUBLIC_ROOTS = Path("/usr/share/ca-certificates/mozilla")
_PATIENCE = 90.0  # seconds for one operation; a circuit of Tor may take half of it
_MOST = 2**24  # bytes of a copy or a list
# bytes of a packet of SFTP; names of files in a folder
_MOST_PACKET, _MOST_NAMES = 2**18, 100_000
_SOCKS_FAULTS = {
    1: "no connection was made",
    2: "it refused",
    3: "the network is unreachable",
    4: "there is no such host, or it does not answer",
    5: "the connection was refused",
    6: "it took too long",
    0xF0: "there is no such onion service, or it is down",
    0xF1: "the address is not valid",
    0xF2: "the introduction to the onion service failed",
    0xF3: "the rendezvous with the onion service failed",
    0xF4: "the onion service needs a key of its clients",
    0xF6: "the address is not valid",
    0xF7: "the onion service did not answer in time",
}
_ENTRY = re.compile(r"<Key>([^<]+)</Key>")
_MORE = re.compile(r"<NextContinuationToken>([^<]+)</NextContinuationToken>")
_ERROR = re.compile(r"<Code>([^<]+)</Code>")


class Target(Protocol):
    """A server that keeps copies."""

    def put(self, path: Path) -> None:
        """Store a copy under its own name. Raises Fault."""

    def names(self, beginning: str) -> list[str]:
        """The names of its copies that begin so, the oldest first. Raises Fault."""

    def get(self, name: str) -> bytes:
        """A copy. Raises Fault."""

    def check(self) -> None:
        """Find out whether it can be reached. Raises Fault."""

    def close(self) -> None:
        """End what connects to it."""


def target(name: str, settings: Mapping[str, Any], proxy: Endpoint) -> Target:
    """The server that settings describe, as `backup_targets` of the collection checks them."""
    return S3(name, settings, proxy) if settings["type"] == "s3" else Sftp(name, settings)


def connect(proxy: Endpoint, host: str, port: int, client: str) -> socket.socket:
    """A connection through a SOCKS proxy, on a circuit that no other client uses. Raises Fault (RFC 1928, 1929)."""
    where = f"{host}:{port}"
    try:
        connection = socket.create_connection((proxy.address, proxy.port), _PATIENCE)
    except OSError as error:
        raise Fault(f"tor does not answer at {proxy}: {error.strerror or error}") from error
    try:
        connection.sendall(b"\x05\x01\x02")
        if _received(connection, 2) != b"\x05\x02":
            raise Fault(f"{proxy} is not a SOCKS port of tor")
        user = client.encode()
        connection.sendall(b"\x01" + bytes([len(user)]) + user + b"\x01-")
        _received(connection, 2)
        name = host.encode()
        connection.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big"))
        _version, status, _reserved, kind = _received(connection, 4)
        if status:
            raise Fault(f"tor cannot reach {where}: {_SOCKS_FAULTS.get(status, f'status {status:#x}')}")
        _received(connection, {1: 4, 3: 0, 4: 16}.get(kind, 0) + 2)
    except OSError as error:
        connection.close()
        raise Fault(f"tor does not reach {where}: {error.strerror or error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _received(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise OSError("it hung up")
        found += piece
    return found


class Sftp:
    """A folder of an SSH server, through one connection that stays.

    It speaks SFTP itself, and waits for answers as rarely as it can: through Tor, each takes a fraction of a second.
    Source: draft-ietf-secsh-filexfer-02, which is version 3, the one that OpenSSH speaks.
    """

    _INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE, _OPENDIR, _READDIR = 1, 2, 3, 4, 5, 6, 11, 12
    _MKDIR, _REALPATH, _RENAME, _STATUS, _HANDLE, _DATA, _NAME, _EXTENDED = 14, 16, 18, 101, 102, 103, 104, 200
    _TO_READ, _TO_WRITE = 0x1, 0x2 | 0x8 | 0x10  # the latter: make it, and make it empty
    _DONE, _AT_END = 0, 1
    _REPLACING = b"posix-rename@openssh.com"
    _PIECE, _AT_ONCE = 2**15, 16  # bytes of a file in a packet, packets that are asked for at once

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self._folder = settings["path"]
        options = {
            "BatchMode": "yes",
            "ProxyCommand": f"python3 {_PROGRAM} connect {name}",
            "IdentityFile": _KEY,
            "IdentitiesOnly": "yes",
            "PreferredAuthentications": "publickey",
            # The file has one key for each target, by its name.
            "HostKeyAlias": name,
            "UserKnownHostsFile": _KNOWN_HOSTS,
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "UpdateHostKeys": "no",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "2",
            "LogLevel": "ERROR",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        self._command = ["ssh", "-F", "none", *words, "-s", f"{settings['user']}@{settings['host']}", "sftp"]
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self._replaces = False

    def put(self, path: Path) -> None:
        content = path.read_bytes()
        fresh, place = self._path(f"{path.name}.new"), self._path(path.name)
        with self._connected():
            handle = self._handle(self._OPEN, _text(fresh), _number(self._TO_WRITE), _number(0))
            sent = [
                self._send(self._WRITE, handle, at.to_bytes(8, "big"), _text(content[at : at + self._PIECE]))
                for at in range(0, len(content), self._PIECE)
            ]
            sent.append(self._send(self._CLOSE, handle))
            for number in sent:
                self._done(number)
            # Only now: it has its name when all of it is there.
            if self._replaces:
                self._done(self._send(self._EXTENDED, _text(self._REPLACING), _text(fresh), _text(place)))
            else:
                self._done(self._send(self._RENAME, _text(fresh), _text(place)))

    def names(self, beginning: str) -> list[str]:
        found: list[str] = []
        with self._connected():
            handle = self._handle(self._OPENDIR, _text(self._path("")))
            while True:
                kind, body = self._answer(self._send(self._READDIR, handle))
                if kind != self._NAME:
                    self._check_status(kind, body, self._AT_END)
                    break
                found += names_in(body)
                if len(found) > _MOST_NAMES:
                    raise Fault(f"its folder has more than {_MOST_NAMES} files")
            self._done(self._send(self._CLOSE, handle))
        return sorted(name for name in found if name.startswith(beginning) and name.endswith(".age"))

    def get(self, name: str) -> bytes:
        content = b""
        with self._connected():
            handle = self._handle(self._OPEN, _text(self._path(name)), _number(self._TO_READ), _number(0))
            while more := self._read(handle, len(content)):
                content += more
                if len(content) > _MOST:
                    raise Fault(f"{name} is larger than {_MOST} bytes")
            self._done(self._send(self._CLOSE, handle))
        return content

    def _read(self, handle: bytes, start: int) -> bytes:
        """The next bytes of a file; none at its end."""
        places = [start + number * self._PIECE for number in range(self._AT_ONCE)]
        sent = [self._send(self._READ, handle, at.to_bytes(8, "big"), _number(self._PIECE)) for at in places]
        content, follows = b"", True
        for number in sent:
            kind, body = self._answer(number)
            if kind != self._DATA:
                self._check_status(kind, body, self._AT_END)
            # After a piece that is not whole, the others do not follow.
            elif follows:
                piece, _end = _text_at(body, 0)
                content, follows = content + piece, len(piece) == self._PIECE
        return content

    def check(self) -> None:
        with self._connected():
            kind, body = self._answer(self._send(self._REALPATH, _text(".")))
            if kind != self._NAME:
                self._check_status(kind, body, self._DONE)

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}"

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """With a connection, and for as long as one operation may take. Raises Fault."""
        is_new = self._process is None or self._process.poll() is not None
        if is_new:
            self.close()
            # A user of the system has no shell, and ssh starts the command of its proxy with one.
            environment = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
            )
        process = self._started()
        overdue = threading.Timer(_PATIENCE, process.kill)
        overdue.start()
        try:
            if is_new:
                self._begin()
            yield
        except BaseException:
            self.close()
            raise
        finally:
            overdue.cancel()

    def _begin(self) -> None:
        self._write(bytes([self._INIT]) + _number(3))
        kind, body = self._packet()
        if kind != self._VERSION:
            raise Fault("it does not speak SFTP")
        self._replaces = self._REPLACING in body
        # It may be there; if it cannot be made, what follows says why.
        self._answer(self._send(self._MKDIR, _text(self._folder), _number(0)))

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise Fault("it is not connected")
        return self._process

    def _send(self, kind: int, *fields: bytes) -> int:
        """Send a request, and return its number."""
        self._asked = (self._asked + 1) % 2**32
        self._write(bytes([kind]) + _number(self._asked) + b"".join(fields))
        return self._asked

    def _write(self, packet: bytes) -> None:
        stdin = self._started().stdin
        try:
            if stdin is not None:
                stdin.write(_text(packet))
                stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _answer(self, number: int) -> tuple[int, bytes]:
        """Kind and fields of the answer to a request; the server answers in their order."""
        kind, body = self._packet()
        if body[:4] != _number(number):
            raise Fault("it answers what it was not asked")
        return kind, body[4:]

    def _packet(self) -> tuple[int, bytes]:
        size = int.from_bytes(self._received(4), "big")
        if not 1 <= size <= _MOST_PACKET:
            raise Fault("it does not speak SFTP")
        packet = self._received(size)
        return packet[0], packet[1:]

    def _received(self, size: int) -> bytes:
        stdout = self._started().stdout
        found = stdout.read(size) if stdout is not None else b""
        if len(found) < size:
            raise self._ended()
        return found

    def _ended(self) -> Fault:
        """Why there is no connection any more: what ssh says."""
        process = self._started()
        process.kill()
        _out, errors = process.communicate()
        lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
        # ssh says so after each other fault
        lines = [line for line in lines if not line.startswith("Connection closed")] or lines
        return Fault("; ".join(lines[-3:])[-400:] or f"it hung up, or did not answer within {_PATIENCE:.0f} s")

    def _handle(self, kind: int, *fields: bytes) -> bytes:
        """Open something, and return what it is called from now on."""
        found, body = self._answer(self._send(kind, *fields))
        if found != self._HANDLE:
            self._check_status(found, body, self._DONE)
        handle, _end = _text_at(body, 0)
        return _text(handle)

    def _done(self, number: int) -> None:
        self._check_status(*self._answer(number), self._DONE)

    def _check_status(self, kind: int, body: bytes, expected: int) -> None:
        """Raises Fault, with what the server says."""
        if kind != self._STATUS or len(body) < 4:
            raise Fault("it answers what SFTP does not have")
        if (code := int.from_bytes(body[:4], "big")) != expected:
            said = _text_at(body, 4)[0].decode(errors="replace") if len(body) > 4 else ""
            raise Fault(f"it refuses: {''.join(filter(str.isprintable, said))[:200] or f'status {code}'}")


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _text(content: str | bytes) -> bytes:
    """As SSH writes text: its length and itself."""
    raw = content.encode() if isinstance(content, str) else content
    return _number(len(raw)) + raw


def _text_at(packet: bytes, at: int) -> tuple[bytes, int]:
    """The text at a place, and where it ends. Raises Fault."""
    start = at + 4
    end = start + int.from_bytes(packet[at:start], "big")
    if len(packet) < max(start, end):
        raise Fault("its answer is cut off")
    return packet[start:end], end


def names_in(packet: bytes) -> list[str]:
    """The names in an answer of SFTP that lists files. Raises Fault."""
    found, at = [], 4
    for _number_of_it in range(int.from_bytes(packet[:4], "big")):
        name, at = _text_at(packet, at)
        _line, at = _text_at(packet, at)
        flags = int.from_bytes(packet[at : at + 4], "big")
        # size, owner and group, mode, times
        at += 4 + sum(size for bit, size in ((1, 8), (2, 8), (4, 4), (8, 8)) if flags & bit)
        if flags & 2**31:
            count = int.from_bytes(packet[at : at + 4], "big")
            at += 4
            for _text_of_it in range(2 * count):
                _content, at = _text_at(packet, at)
        if len(packet) < at:
            raise Fault("its answer is cut off")
        found.append(name.decode(errors="replace"))
    return found


class S3:
    """A bucket, addressed by its path, through one connection that stays.

    Requests are signed as AWS describes it (Signature Version 4).
    """

    def __init__(self, name: str, settings: Mapping[str, Any], proxy: Endpoint) -> None:
        self._name = name
        self._proxy = proxy
        self._settings = settings
        place = urllib.parse.urlsplit(settings["endpoint"])
        self._tls = place.scheme == "https"
        self._host = str(place.hostname)
        self._port = place.port or (443 if self._tls else 80)
        default = self._port == (443 if self._tls else 80)
        self._address = self._host if default else f"{self._host}:{self._port}"
        self._base = f"{place.path.rstrip('/')}/{settings['bucket']}"
        self._connection: _Through | None = None

    def put(self, path: Path) -> None:
        self._request("PUT", self._key(path.name), content=path.read_bytes())

    def names(self, beginning: str) -> list[str]:
        query = {"list-type": "2", "prefix": f"{self._settings['prefix']}{beginning}"}
        found: list[str] = []
        while True:
            text = self._request("GET", "", query).decode(errors="replace")
            found += (key.removeprefix(self._settings["prefix"]) for key in _ENTRY.findall(text))
            more = _MORE.search(text)
            if not more:
                return sorted(name for name in found if name.endswith(".age"))
            query["continuation-token"] = more[1]

    def get(self, name: str) -> bytes:
        return self._request("GET", self._key(name))

    def check(self) -> None:
        self._request("GET", "", {"list-type": "2", "max-keys": "1"})

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _key(self, name: str) -> str:
        return f"/{self._settings['prefix']}{name}"

    def _request(self, method: str, key: str, query: Mapping[str, str] | None = None, content: bytes = b"") -> bytes:
        path = urllib.parse.quote(f"{self._base}{key}", safe="/-_.~")
        asked = urllib.parse.urlencode(sorted((query or {}).items()), quote_via=urllib.parse.quote, safe="-_.~")
        now = datetime.now(UTC)
        headers = signed_headers(self._settings, method, self._address, path, asked, content, now)
        status, reason, body = self._exchange(method, f"{path}?{asked}" if asked else path, content or None, headers)
        if status != 200:
            found = _ERROR.search(body.decode(errors="replace"))
            raise Fault(f"{self._address} refuses with status {status} ({found[1] if found else reason})")
        return body

    def _exchange(
        self, method: str, url: str, content: bytes | None, headers: dict[str, str]
    ) -> tuple[int, str, bytes]:
        """Status, reason and body of an answer. Raises Fault."""
        is_kept = self._connection is not None
        if self._connection is None:
            context = self._context() if self._tls else None
            self._connection = _Through(self._proxy, self._host, self._port, self._name, context)
        try:
            self._connection.request(method, url, content, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.reason, answer.read(_MOST)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not is_kept:
                raise Fault(f"{self._address} does not answer: {error!r}") from error
        except BaseException:
            self.close()
            raise
        # The server has ended the connection meanwhile.
        return self._exchange(method, url, content, headers)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self._settings["ca"] or "".join(public_roots()))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context


def public_roots() -> Iterator[str]:
    """The roots that Debian trusts, in PEM."""
    for path in sorted(_PUBLIC_ROOTS.glob("*.crt")):
        yield path.read_text(encoding="ascii")


class _Through(http.client.HTTPConnection):
    """HTTP through a SOCKS proxy, with TLS if there is a context."""

    def __init__(self, proxy: Endpoint, host: str, port: int, client: str, context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=_PATIENCE)
        self._proxy = proxy
        self._client = client
        self._context_of_tls = context

    def connect(self) -> None:
        self.sock = connect(self._proxy, self.host, self.port, self._client)
        if self._context_of_tls is not None:
            self.sock = self._context_of_tls.wrap_socket(self.sock, server_hostname=self.host)


def signed_headers(
    settings: Mapping[str, Any], method: str, address: str, path: str, query: str, content: bytes, now: datetime
) -> dict[str, str]:
    """The headers of a request with its signature.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    """
    moment, day = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}"
    digest = hashlib.sha256(content).hexdigest()
    headers = {"host": address, "x-amz-content-sha256": digest, "x-amz-date": moment}
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = "\n".join([method, path, query, lines, names, digest])
    scope = f"{day}/{settings['region']}/s3/aws4_request"
    hashed = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashed])
    key = f"AWS4{settings['secret_key']}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    credential = f"Credential={settings['access_key']}/{scope}"
    value = f"AWS4-HMAC-SHA256 {credential},SignedHeaders={names},Signature={key.hex()}"
    return {**headers, "Authorization": value}


def relay(connection: socket.socket, source: io.RawIOBase, sink: io.RawIOBase) -> None:
    """Hand on what comes from either side, until the other end hangs up."""

    def outward() -> None:
        while data := source.read(2**16):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    threading.Thread(target=outward, daemon=True).start()
    connection.settimeout(None)
    while data := connection.recv(2**16):
        sink.write(data)


def newest(names: Sequence[str], beginning: str) -> str | None:
    """The newest copy that begins so."""
    found = [name for name in names if name.startswith(beginning)]
    return max(found) if found else None
