# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The REST client: requests, asynchronous operations, deadlines, errors in words.

The transport is pylxd's requests session (unix sockets, certificates pinned by fingerprint). Its object models are not
used: they lack ACLs, ETags and deadlines.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import socket
import ssl
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

from .._base import change_count
from .._base.read import read_json
from .endpoint import Endpoint, resolve
from .lxd_errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    LxdError,
    NotFound,
    PreconditionFailed,
    TooMuchOutput,
    Unreachable,
    Unsupported,
)

try:
    import requests
    from pylxd.client import get_session_for_url
except ImportError as import_error:  # the sanity tests import this file without the libraries
    IMPORT_ERROR: ImportError | None = import_error
else:
    IMPORT_ERROR = None

#: stands for the project of the client, where None means none at all; no project can be called that
OWN = "."
CHANGED_MEANWHILE = "it was changed after it was read; nothing was overwritten, run again"

# Of a connection that was not made; TimeoutError is not among them, since an answer may be late.
_UNSENT = (FileNotFoundError, PermissionError, ConnectionRefusedError, ssl.SSLError)

# Bytes of an answer, in which much may come from instances (names, addresses, the end of a journal).
_MOST = 64 * 2**20
# bytes of a file of an instance that is read for what it says
_MOST_OF_A_FILE = 2**20
_CHUNK = 64 * 1024
# seconds that the server is asked to wait for something at a time
_LONGEST_WAIT = 30

_BY_STATUS = {403: Forbidden, 404: NotFound, 409: Conflict, 412: PreconditionFailed}


@dataclass(frozen=True)
class Operation:
    """An asynchronous operation: its ``id`` and the operation object as it was when it started."""

    id: str
    metadata: dict[str, Any]


class Client:
    """One endpoint seen from one project. Safe to share between threads, not between processes."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        project: str = "default",
        client_cert: str | None = None,
        client_key: str | None = None,
        server_cert: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        if IMPORT_ERROR is not None:
            raise LxdError(
                "The Python library pylxd", f"is needed on the controller: {IMPORT_ERROR}", code="missing_program"
            ) from IMPORT_ERROR
        self.project = project
        self.timeout = timeout
        self.endpoint: Endpoint = resolve(
            endpoint, client_cert=client_cert, client_key=client_key, server_cert=server_cert, timeout=timeout
        )
        cert = (client_cert, client_key) if client_cert and client_key else client_cert
        # The machine's proxy settings are for the outside, never for a LXD endpoint.
        pinned = None if self.endpoint.server_roots else server_cert
        self._session = get_session_for_url(self.endpoint.url, verify=pinned or True, cert=cert)
        self._session.verify = server_cert or True
        self._session.trust_env = False
        self._server: dict[str, Any] | None = None

    def seen_from(self, project: str) -> Client:
        """Return the same endpoint seen from another project, by the same connections."""
        other = copy.copy(self)
        other.project = project
        return other

    def close(self) -> None:
        self._session.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- what the server is -------------------------------------------------------------------------------------------

    @property
    def server(self) -> dict[str, Any]:
        """``GET /1.0``, read once."""
        if self._server is None:
            server = self.get("/1.0", project=None)
            if server.get("auth") == "untrusted":
                raise Forbidden(
                    self.endpoint.name, "does not trust our client certificate", "add it there with a trust token"
                )
            self._server = server
        return self._server

    @property
    def tool(self) -> str:
        """The name of the server's command-line client."""
        return "incus" if self.server["environment"]["server"] == "incus" else "lxc"

    def check_trust(self) -> None:
        """Raise LxdError unless the server answers and trusts this client."""
        self.has("")

    def has(self, extension: str) -> bool:
        return extension in self.server["api_extensions"]

    def require(self, extension: str, what: str) -> None:
        """Raise Unsupported unless the server has the API extension that ``what`` needs."""
        if not self.has(extension):
            version = self.server["environment"]["server_version"]
            raise Unsupported(
                what, f"needs the API extension {extension}, which {self.endpoint.name} ({version}) lacks", "upgrade it"
            )

    # -- requests -----------------------------------------------------------------------------------------------------

    def get(self, path: str, *, project: str | None = OWN, **params: Any) -> Any:
        return self.read(path, project=project, **params)[0]

    def read(self, path: str, *, project: str | None = OWN, **params: Any) -> tuple[Any, str | None]:
        """Metadata and ETag of an object."""
        response = self._send("GET", path, project=project, params=params)
        return self._decode(response)["metadata"], response.headers.get("ETag")

    def find(self, path: str, *, project: str | None = OWN, **params: Any) -> Any | None:
        """Metadata of an object, None if it does not exist."""
        try:
            return self.get(path, project=project, **params)
        except NotFound:
            return None

    def no_instance(self, name: str) -> NotFound:
        """The error for an instance that the server does not find."""
        return self.not_found(f'Instance "{name}" does not exist in project {self.project}')

    def not_found(self, message: str, project: str | None = OWN) -> NotFound:
        """The error for what the server does not find, which may be because it lacks the project."""
        name = self.project if project == OWN else project
        if name and self.find(f"/1.0/projects/{quoted(name)}", project=None) is None:
            return NotFound(f'Project "{name}"', f"does not exist at {self.endpoint.name}")
        return NotFound(message)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        project: str | None = OWN,
        etag: str | None = None,
        **params: Any,
    ) -> Any:
        """Send a change. Returns the metadata of a synchronous answer, or the Operation that was started."""
        headers = {"If-Match": etag} if etag else {}
        data = None if body is None else json.dumps(body)
        answer = self.decode(self._send(method, path, project=project, params=params, data=data, headers=headers))
        if not isinstance(answer, Operation):
            change_count.note()
        return answer

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        what: str,
        deadline: float = 120.0,
        project: str | None = OWN,
        etag: str | None = None,
        **params: Any,
    ) -> Any:
        """Send a change and wait for it, ``deadline`` seconds at most; ``what`` names it ("start instance tor")."""
        try:
            answer = self.send(method, path, body, project=project, etag=etag, **params)
            return self.wait(answer, what=what, deadline=deadline) if isinstance(answer, Operation) else answer
        except (Unreachable, DeadlineExceeded):
            raise
        except PreconditionFailed as error:
            raise PreconditionFailed(f"Failed to {what}:", CHANGED_MEANWHILE) from error
        except NotFound as error:
            raise self.not_found(str(error), project).within(f"Failed to {what}") from error
        except LxdError as error:
            raise error.within(f"Failed to {what}") from error

    def wait(self, operation: Operation, *, what: str, deadline: float = 120.0) -> dict[str, Any]:
        """Wait for an operation, at most ``deadline`` seconds; its metadata. LxdError if it failed.

        A failed operation undoes what it did. One of class websocket is a command or a copy of files, which only the
        caller knows whether it changes anything.
        """
        changes = operation.metadata.get("class", "task") == "task"
        try:
            metadata = self._wait(operation, what, deadline)
        except (DeadlineExceeded, Unreachable):
            if changes:
                change_count.note()
            raise
        if changes:
            change_count.note()
        return metadata

    def _wait(self, operation: Operation, what: str, deadline: float) -> dict[str, Any]:
        end = time.monotonic() + deadline
        while True:
            seconds = min(_LONGEST_WAIT, math.ceil(max(0.0, end - time.monotonic())))
            state = self.get(f"/1.0/operations/{operation.id}/wait", timeout=seconds)
            if state["status_code"] in (200, 400, 401):
                break
            if time.monotonic() >= end:
                if state.get("may_cancel"):
                    with contextlib.suppress(LxdError):
                        self.send("DELETE", f"/1.0/operations/{operation.id}")
                progress = ", ".join(f"{k}: {v}" for k, v in (state.get("metadata") or {}).items() if "progress" in k)
                raise DeadlineExceeded(
                    f"Failed to {what}:", f"not done after {deadline:g} s ({progress or state['status'].lower()})"
                )
        if state["status_code"] != 200:
            raise LxdError(state["err"] or state["status"], code="server_error")
        return state.get("metadata") or {}

    def settle(self, paths: Collection[str], project: str, deadline: float = 120.0) -> None:
        """Wait for what the server still does to the objects at ``paths``: a run that was killed does not stop it."""
        for states in self.get("/1.0/operations", recursion=1, project=project).values():
            for state in states:
                paths_of_kinds = filter(None, (state["resources"] or {}).values())
                touched = {path.partition("?")[0] for found in paths_of_kinds for path in found}
                if state["class"] == "task" and state["status_code"] < 200 and not touched.isdisjoint(paths):
                    # How it ended shows in the object.
                    with contextlib.suppress(LxdError):
                        self._wait(Operation(state["id"], state), "wait", deadline)

    def stream(
        self,
        method: str,
        path: str,
        *,
        data: BinaryIO | Iterator[bytes] | Any = None,
        headers: dict[str, str] | None = None,
        project: str | None = OWN,
        **params: Any,
    ) -> requests.Response:
        """A request whose body or answer is not JSON; the answer is not read yet (images, backups)."""
        return self._send(method, path, project=project, params=params, data=data, headers=headers or {}, endless=True)

    def download(
        self, path: str, *, project: str | None = OWN, most: int = _MOST_OF_A_FILE, **params: Any
    ) -> bytes:
        """The whole of an answer that is not JSON. Raises TooMuchOutput if it is longer than ``most`` bytes."""
        with self._send("GET", path, project=project, params=params) as response:
            return self._content(response, most)

    def decode(self, response: requests.Response) -> Any:
        """Return the result of ``send`` from an answer of ``stream``."""
        answer = self._decode(response)
        metadata = answer["metadata"]
        return Operation(metadata["id"], metadata) if answer["type"] == "async" else metadata

    def connect(self) -> socket.socket:
        """A connected stream to the API, for what is not plain HTTP. Unreachable or Forbidden if there is none."""
        try:
            return self.endpoint.connect(self.timeout)
        except OSError as error:
            raise self._unreachable(error) from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        project: str | None,
        params: dict[str, Any],
        data: Any = None,
        headers: dict[str, str] | None = None,
        endless: bool = False,
    ) -> requests.Response:
        """The answer, whose body is not read yet; to ``endless`` requests it comes when it comes."""
        query = {key: value for key, value in params.items() if value is not None}
        if project is not None:
            query["project"] = self.project if project == OWN else project
        timeout = self.timeout + float(query.get("timeout", 0))
        try:
            response = self._session.request(
                method,
                self.endpoint.url + path,
                params=query,
                data=data,
                headers=headers,
                timeout=(self.timeout, None if endless else timeout),
                stream=True,
            )
        except requests.RequestException as error:
            if method != "GET" and not any(isinstance(cause, _UNSENT) for cause in _causes(error)):
                change_count.note()  # the server may have done it
            raise self._unreachable(error) from error
        if response.status_code >= 400:
            if response.status_code == 403:
                self.check_trust()
            try:
                message = self._json(response)["error"]
            except (ValueError, KeyError, TypeError):
                message = f"HTTP {response.status_code} {response.reason}"
            raise _BY_STATUS.get(response.status_code, LxdError)(message)
        return response

    def _content(self, response: requests.Response, most: int) -> bytes:
        """Return the content of an answer, up to ``most`` bytes. There is one deadline for all of it."""
        seconds = self.timeout + _LONGEST_WAIT
        end = time.monotonic() + seconds
        content = bytearray()
        try:
            for chunk in response.iter_content(_CHUNK):
                content += chunk
                if len(content) > most:
                    raise TooMuchOutput(f"{response.url}:", f"the answer is longer than {most} bytes")
                if time.monotonic() > end:
                    raise DeadlineExceeded(f"{response.url}:", f"the answer did not come within {seconds:g} s")
        except requests.RequestException as error:
            if response.request.method != "GET":
                change_count.note()  # it was done, whatever the rest of the answer says
            raise self._unreachable(error) from error
        return bytes(content)

    def _json(self, response: requests.Response) -> Any:
        with response:
            return read_json(self._content(response, _MOST))

    def _decode(self, response: requests.Response) -> dict[str, Any]:
        try:
            answer = self._json(response)
            kind, metadata = answer["type"], answer.get("metadata")
            if kind == "error":
                fault = _BY_STATUS.get(int(answer.get("error_code", 0)), LxdError)(str(answer.get("error", "unknown")))
            elif kind == "async" and not isinstance(metadata["id"], str):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LxdError(f"{response.url}:", "not an answer of LXD's API", code="server_error") from error
        if kind == "error":
            raise fault
        return {"metadata": None, **answer}

    def _unreachable(self, error: Exception) -> LxdError:
        """Return the cause of a failed connection, in words."""
        name = self.endpoint.name
        for cause in _causes(error):
            if isinstance(cause, PermissionError):
                return Forbidden(
                    f"Permission denied on {self.endpoint.socket_path}",
                    remedy="join the group that owns it (`sudo usermod -aG lxd $USER`, then log in again), or run as "
                    "root",
                    about=str(self.endpoint.socket_path),
                )
            if isinstance(cause, (FileNotFoundError, ConnectionRefusedError)):
                return Unreachable(f"No answer at {name}", remedy="check that LXD is running there", about=name)
            if isinstance(cause, (requests.exceptions.SSLError, ssl.SSLError)):
                if self.endpoint.server_roots:
                    links = (link for link in _causes(error) if isinstance(link, ssl.SSLCertVerificationError))
                    why = next((link.verify_message for link in links), "no TLS")
                    reason = (
                        f"{self.endpoint.server_cert} does not vouch for its certificate ({why}): give the "
                        "server another one, or call it by a name that its certificate has"
                    )
                elif self.endpoint.server_cert:
                    reason = f"it does not show the certificate pinned in {self.endpoint.server_cert}"
                else:
                    reason = "this machine does not trust its certificate: name it in server_cert"
                return Unreachable(name, f"is not what it should be: {reason}")
            if isinstance(cause, (requests.Timeout, TimeoutError)):
                return Unreachable(name, f"did not answer within {self.timeout:g} s")
            if isinstance(cause, (ConnectionResetError, BrokenPipeError)):
                return Unreachable(name, "closed the connection", "check that LXD is running there")
        return Unreachable(f"The connection to {name} failed:", cause)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what lies below it; libraries wrap it in arguments, in ``reason`` or as the cause."""
    below: Any = error
    while isinstance(below, BaseException):
        yield below
        inner = next((argument for argument in below.args if isinstance(argument, BaseException)), None)
        below = inner or getattr(below, "reason", None) or below.__cause__ or below.__context__


def own_headers(**values: str) -> dict[str, str]:
    """Return headers of the API beside its body, as LXD and as Incus call them; those without a value are left out."""
    return {f"X-{server}-{key}": value for server in ("LXD", "Incus") for key, value in values.items() if value}


def quoted(name: str) -> str:
    """A name as one segment of a path."""
    return quote(name, safe="")
