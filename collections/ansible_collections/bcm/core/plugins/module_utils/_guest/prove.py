# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the programs share that prove a stack, make credentials for its consumers, or wait for one.

In the instance, this is ``bcm_guest.prove``. It runs there with Python's standard library alone.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import ssl
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

#: The roots of the data center. Outside of the sandbox, the system's own place for roots has others.
TRUST = "/etc/bcm/trust/ca-certificates.crt"
CERTIFICATE, KEY = "/etc/bcm/tls/certificate.pem", "/etc/bcm/tls/key.pem"
_TIMEOUT = 30.0  # seconds for one answer
_INTERVAL = 0.2  # seconds between two looks


class Fault(Exception):
    """What is not as it should be, for people. Time may mend it: `prove` looks again until the deadline."""


class Lasting(Fault):
    """A fault that time does not mend."""


class Refused(Fault):
    """A server answered a call with an error. ``status`` is that of HTTP."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Endpoint:
    """Where a service listens."""

    address: str
    port: int
    tls: bool = False
    #: whether the certificate of this instance is shown
    mutual: bool = False
    #: whom the certificate there is for, if not the address
    name: str = ""

    @classmethod
    def of(cls, used: Mapping[str, Any]) -> Endpoint:
        """Where a service is reached that `needs` of the plan describes."""
        return cls(used["address"], int(used["port"]), bool(used["tls"]), used["tls"] == "mutual")

    def connect(self) -> socket.socket:
        """A connection, with TLS if the service has it. Raises OSError."""
        plain = socket.create_connection((self.address, self.port), _TIMEOUT)
        # Otherwise a request would wait until the server has acknowledged the end of the handshake of TLS: 40 ms.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self.tls:
            return plain
        try:
            context = ssl.create_default_context(cafile=TRUST)
            if self.mutual:
                context.load_cert_chain(CERTIFICATE, KEY)
            return context.wrap_socket(plain, server_hostname=self.name or self.address)
        except BaseException:
            plain.close()
            raise

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


@dataclass
class Report:
    """What a verify program returns: facts for programs, notes and warnings for people."""

    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Waiting(Fault):
    """The stack itself works, but something it depends on is not ready: a warning once the deadline is over.

    ``report`` is what is known of it all the same.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report or Report()


@dataclass(frozen=True)
class Stack:
    """The stack whose instance this is: its part of the plan, its secrets, and what its role expects."""

    bcm: Mapping[str, Any]
    secrets: Mapping[str, str]
    expected: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.bcm["stack"])

    def service(self, name: str) -> Endpoint:
        """Where its own service is reached by its clients; behind its proxy if that wants certificates of clients.

        Its own certificate need not be one of a client.
        """
        service = self.bcm["services"][name]
        tls = service["tls"] in ("server", "own")
        return Endpoint(self.bcm["address"] if tls else service["listen"], int(service["port"]), tls)

    def need(self, stack: str, service: str) -> Endpoint:
        """Where a service of another stack is reached."""
        return Endpoint.of(self.bcm["needs"][stack][service])

    def secret(self, stack: str, service: str) -> str:
        """The secret that it shares with a stack whose service it uses."""
        return self.secrets[f"{stack}/{service}/{self.name}"]


@dataclass(frozen=True)
class Consumer:
    """What a stack uses of another one, and what it may do there."""

    services: Sequence[str]
    permissions: Mapping[str, Any]


@dataclass(frozen=True)
class Credentials:
    """The credential of each consumer for each service, None if it needs none, and whether any was made or revoked."""

    credentials: Mapping[str, Mapping[str, str | None]]
    changed: bool


def prove(look: Callable[[Stack], Report]) -> None:
    """Look until there is no fault, and print the report as JSON. Ends the program with the fault at the deadline."""
    request = json.load(sys.stdin)
    stack = Stack(request["bcm"], request["secrets"], request["expected"])
    try:
        report = _until_faultless(stack.name, request["deadline"], lambda: look(stack))
    except Waiting as fault:
        report = fault.report
        report.warnings.append(str(fault))
    json.dump(asdict(report), sys.stdout)


def make_credentials(make: Callable[[Stack, Mapping[str, Consumer], bool], Credentials]) -> None:
    """Have credentials made for all consumers until there is no fault, and print them as JSON.

    The function is called with the stack, its consumers by name, and whether nothing may be changed. Ends the program
    with the fault at the deadline.
    """
    request = json.load(sys.stdin)
    stack = Stack(request["bcm"], request["secrets"], request["expected"])
    consumers = {
        name: Consumer(consumer["services"], consumer["permissions"]) for name, consumer in request["consumers"].items()
    }
    try:
        made = _until_faultless(stack.name, request["deadline"], lambda: make(stack, consumers, request["check"]))
    except Waiting as fault:
        raise SystemExit(f"{stack.name}: {fault}") from fault
    json.dump(asdict(made), sys.stdout)


_Answer = TypeVar("_Answer")


def _until_faultless(name: str, seconds: float, ask: Callable[[], _Answer]) -> _Answer:
    """What is answered once there is no fault. At the deadline, raises Waiting, or ends the program with the fault."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except (Fault, OSError, http.client.HTTPException) as fault:
            is_over = time.monotonic() > deadline
            if is_over and isinstance(fault, Waiting):
                raise
            if is_over or isinstance(fault, Lasting):
                raise SystemExit(f"{name}: {fault}") from fault
        time.sleep(_INTERVAL)


def has_main_process_ended() -> bool:
    """Whether the main process of a unit has ended, for programs of its ExecStartPost that wait for an answer.

    systemd waits for these programs, too, before it restarts the unit.
    """
    process = os.environ.get("MAINPID")
    if process is None:
        return False
    try:
        # The sandbox hides it in /proc, as each program of a unit has a user namespace of its own.
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


class _HTTPConnection(http.client.HTTPConnection):
    """HTTP to an endpoint, or over the unix socket with that path."""

    def __init__(self, place: Endpoint | str) -> None:
        super().__init__("localhost" if isinstance(place, str) else place.address, timeout=_TIMEOUT)
        self._place = place

    def connect(self) -> None:
        if isinstance(self._place, Endpoint):
            self.sock = self._place.connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._place)


def http_request(
    place: Endpoint | str,
    method: str = "GET",
    path: str = "/",
    body: str = "",
    credentials: str = "",
    headers: Mapping[str, str] | None = None,
    patience: float = _TIMEOUT,
) -> tuple[int, str]:
    """Status and body of an HTTP request. ``credentials`` are ``user:password``. ``patience`` is in seconds.

    Raises Fault if nothing answers.
    """
    basic = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"} if credentials else {}
    connection = _HTTPConnection(place)
    try:
        connection.connect()
        connection.sock.settimeout(patience)
        connection.request(method, path, body or None, {**basic, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Fault(f"nothing answers at {place}: {error!r}") from error
    finally:
        connection.close()


def json_rpc(
    place: Endpoint | str,
    method: str,
    params: Sequence[Any] | Mapping[str, Any] = (),
    credentials: str = "",
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Result of a call of JSON-RPC over HTTP. Raises Fault if nothing answers, Refused if that is an error."""
    body = json.dumps({"id": 0, "method": method, "params": params})
    status, text = http_request(place, "POST", "/", body, credentials, headers)
    try:
        answer = json.loads(text)
        error = answer.get("error")
    except (ValueError, AttributeError):
        answer, error = {}, None
    if error or "result" not in answer:
        why = error["message"] if isinstance(error, dict) and "message" in error else error or f"status {status}"
        raise Refused(f"{place} answers {method} with an error: {why}", status)
    return answer["result"]


def electrum(place: Endpoint, *calls: tuple[str, list[Any]]) -> list[Any]:
    """Results of calls of the Electrum protocol, after the version was agreed upon. Raises Fault."""
    results = []
    try:
        with place.connect() as connection, connection.makefile("rw") as stream:
            for method, params in (("server.version", ["verify", "1.4"]), *calls):
                stream.write(json.dumps({"id": 0, "method": method, "params": params}) + "\n")
                stream.flush()
                answer = json.loads(stream.readline() or '{"error": "it hung up"}')
                if "result" not in answer:
                    raise Fault(f"{place} answers {method} with {answer['error']}")
                results.append(answer["result"])
    except (OSError, ValueError) as error:
        raise Fault(f"nothing answers at {place}: {error!r}") from error
    return results[1:]
