# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that keep copies of backups, reached through Tor: SSH, and stores that speak S3. ``bcm_guest.copies``.

Names of copies are ``<data center>-<chain>-<stack>-<time>.age``: of equal beginnings, the last one is the newest. A
copy never takes the place of another one.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import io
import re
import secrets
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
_READY = "Local working directory"


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
    """A folder of an SSH server, through one connection that stays."""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self._folder = settings["path"]
        options = {
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
        self._command = ["sftp", "-q", "-b", "-", "-F", "none", *words, f"{settings['user']}@{settings['host']}"]
        self._process: subprocess.Popen[str] | None = None

    def put(self, path: Path) -> None:
        fresh = f"{self._folder}/{path.name}.new"
        self._run(f'put -f "{path}" "{fresh}"', f'rename "{fresh}" "{self._folder}/{path.name}"')

    def names(self, beginning: str) -> list[str]:
        found = [Path(line.strip()).name for line in self._run(f'ls -1 "{self._folder}"')]
        return sorted(name for name in found if name.startswith(beginning) and name.endswith(".age"))

    def get(self, name: str) -> bytes:
        COPIES.mkdir(mode=0o700, exist_ok=True)
        path = COPIES / f"{secrets.token_hex(8)}.got"
        try:
            self._run(f'get "{self._folder}/{name}" "{path}"')
            return path.read_bytes()
        finally:
            path.unlink(missing_ok=True)

    def check(self) -> None:
        self._run("pwd")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _run(self, *commands: str) -> list[str]:
        """What commands of sftp print. Raises Fault with what it, or ssh, says of the first that fails."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            # A user of the system has no shell, and ssh starts the command of its proxy with one.
            environment = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"}
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                errors="replace", env=environment, bufsize=1,
            )  # fmt: skip
            # A command after a hyphen may fail: it may be there.
            commands = (f'-mkdir "{self._folder}"', *commands)
        process = self._process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("it has no pipes")
        overdue = threading.Timer(_PATIENCE, process.kill)
        overdue.start()
        printed: list[str] = []
        try:
            process.stdin.write("".join(f"{line}\n" for line in (*commands, "lpwd")))
            process.stdin.flush()
            for line in process.stdout:
                if line.startswith(_READY):
                    return printed
                if not line.startswith("sftp>"):
                    printed.append(line.rstrip("\n"))
        except BrokenPipeError:
            pass
        finally:
            overdue.cancel()
        # It ends with the first command that fails.
        process.wait()
        said = [line.strip() for line in process.stderr.read().splitlines() if line.strip()]
        lines = [line for line in said if not line.startswith(("Connection closed", "remote mkdir"))] or said
        self.close()
        raise Fault("; ".join(lines[-3:])[-400:] or f"it did not answer within {_PATIENCE:.0f} s")


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
