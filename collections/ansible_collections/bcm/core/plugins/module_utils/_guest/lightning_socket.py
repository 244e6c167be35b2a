# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A unix socket that speaks JSON-RPC as that of lightningd, for programs that know no other way to their node.

In the instance, this is ``bcm_guest.lightning_socket``. Each call goes to the REST service of the node (clnrest), with
the rune of the stack, whose permissions are those that count.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import os
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# The codes of lightningd's common/jsonrpc_errors.h.
_UNKNOWN_METHOD, _WRONG_PARAMETERS, _INTERNAL = -32601, -32602, -32603
#: What waits for an event in the node, and does not care whether it was asked once or twice.
_WAITING = frozenset({"waitanyinvoice", "waitinvoice"})
_LARGEST = 1 << 20  # bytes of a request
_CONNECT_TIMEOUT = 30.0  # seconds
_INTERVAL = 1.0  # seconds between two attempts to reach the node
_AT_ONCE = 16  # calls to the node; what waits does not count
# A node whose machine has gone does not say so: after a minute without a sign of life, the connection is over.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))

Params = Mapping[str, Any]
#: Calls the node. Raises NodeError.
Call = Callable[[str, Params], Awaitable[Any]]
#: Answers a call in the place of the node, with the help of calls to it. Raises NodeError.
Answer = Callable[[Call, Params], Awaitable[Any]]


class NodeError(Exception):
    """What is answered in the place of a result."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def shown(self) -> dict[str, Any]:
        """As JSON-RPC has it."""
        return {"code": self.code, "message": self.message, **({} if self.data is None else {"data": self.data})}


class NodeUnreachable(NodeError):
    """The node does not answer: it is starting, perhaps."""

    def __init__(self, why: str) -> None:
        super().__init__(_INTERNAL, f"The node does not answer: {why}")


class Node:
    """clnrest of a node, and the rune with which it is asked."""

    def __init__(self, address: str, port: int, rune: str, trust: str) -> None:
        self._address, self._port = address, port
        self._rune = rune
        self._tls = ssl.create_default_context(cafile=trust)
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def call(self, method: str, params: Params) -> Any:
        """Result of a call. Raises NodeError with the code of lightningd."""
        if method not in _WAITING:
            async with self._free:
                return await self._call(method, params)
        while True:
            try:
                return await self._call(method, params)
            except NodeUnreachable:
                await asyncio.sleep(_INTERVAL)

    async def _call(self, method: str, params: Params) -> Any:
        try:
            status, text = await self._post(method, json.dumps(params).encode())
            answer = json.loads(text)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise NodeUnreachable(repr(error)) from error
        if status in (200, 201):
            return answer
        code, message = (answer.get(name) if isinstance(answer, dict) else None for name in ("code", "message"))
        if not isinstance(code, int):
            # So clnrest says that lightningd, with which it was talking, has gone.
            raise NodeUnreachable(str(message or f"status {status}"))
        raise NodeError(code, str(message), answer.get("data"))

    async def _post(self, method: str, body: bytes) -> tuple[int, bytes]:
        opening = asyncio.open_connection(self._address, self._port, ssl=self._tls, server_hostname=self._address)
        reader, writer = await asyncio.wait_for(opening, _CONNECT_TIMEOUT)
        try:
            keep_alive(writer.get_extra_info("socket"))
            head = (
                f"POST /v1/{method} HTTP/1.1\r\nHost: {self._address}\r\nRune: {self._rune}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + body)
            await writer.drain()
            return parse_reply(await reader.read())
        finally:
            writer.close()


def keep_alive(connection: Any) -> None:
    """Have the kernel notice that the other side has gone."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class _Received:
    """What `http.client` takes for a socket."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def makefile(self, *_args: Any) -> io.BytesIO:
        return self._file


def parse_reply(content: bytes) -> tuple[int, bytes]:
    """Status and body of a reply of HTTP that is complete. Raises HTTPException and ValueError if it is not."""
    reply = http.client.HTTPResponse(_Received(content))  # type: ignore[arg-type]
    reply.begin()
    return reply.status, reply.read()


def split_requests(content: bytes) -> tuple[list[Any], bytes]:
    """The requests that are complete, and the rest. Raises ValueError for what cannot become one."""
    found = []
    rest = content.lstrip()
    decoder = json.JSONDecoder()
    while rest:
        if not rest.startswith(b"{"):
            raise ValueError("a request is an object")
        try:
            request, end = decoder.raw_decode(rest.decode())
        except RecursionError as error:
            raise ValueError("a request that is nested that deep is not one") from error
        except ValueError:
            break  # not all of it is there yet
        found.append(request)
        rest = rest.decode()[end:].lstrip().encode()
    if len(rest) > _LARGEST:
        raise ValueError("a request is too large")
    return found, rest


class Gateway:
    """The calls of one program.

    ``methods`` has the names of the parameters of each call that it may make, in their order. ``answers`` are calls
    that are answered here, with the help of the node or without it; ``translate`` is given what the node answers.
    """

    def __init__(
        self,
        node: Node,
        methods: Mapping[str, Sequence[str]],
        answers: Mapping[str, Answer],
        translate: Callable[[Any], Any],
    ) -> None:
        self._node = node
        self._methods = methods
        self._answers = answers
        self._translate = translate

    async def answer(self, request: Any) -> dict[str, Any]:
        """What is answered to a request of JSON-RPC."""
        reply = {"jsonrpc": "2.0", "id": request.get("id")}
        try:
            method = request.get("method")
            params = self._named(method, request.get("params") or {})
            own = self._answers.get(method)
            result = await (own(self._node.call, params) if own else self._node.call(method, params))
            return {**reply, "result": self._translate(result)}
        except NodeError as error:
            if isinstance(error, NodeUnreachable):
                sys.stderr.write(f"{method}: {error}\n")
            return {**reply, "error": error.shown()}

    def _named(self, method: Any, params: Any) -> dict[str, Any]:
        """Parameters by their names, which REST wants; without those that are null. Raises NodeError."""
        names = self._methods.get(method) if isinstance(method, str) else None
        if names is None:
            raise NodeError(_UNKNOWN_METHOD, f"Unknown command '{method}'")
        if isinstance(params, list):
            while params and params[-1] is None:
                params = params[:-1]
            if len(params) > len(names):
                raise NodeError(_WRONG_PARAMETERS, f"too many parameters: got {len(params)}, expected {len(names)}")
            params = dict(zip(names, params, strict=False))
        if not isinstance(params, dict):
            raise NodeError(_WRONG_PARAMETERS, "Expected array or object for params")
        return {name: value for name, value in params.items() if value is not None}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection until it ends. What still waits then is given up."""
        tasks: set[asyncio.Task[None]] = set()
        rest = b""
        try:
            while more := await reader.read(1 << 16):
                requests, rest = split_requests(rest + more)
                for request in requests:
                    task = asyncio.ensure_future(self._reply(request, writer))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
        except (OSError, ValueError) as error:
            sys.stderr.write(f"A connection is closed: {error}\n")
        finally:
            for task in tasks:
                task.cancel()
            writer.close()

    async def _reply(self, request: Any, writer: asyncio.StreamWriter) -> None:
        answer = await self.answer(request)
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n\n")
            await writer.drain()


def _unchanged(result: Any) -> Any:
    return result


def serve(
    methods: Mapping[str, Sequence[str]],
    answers: Mapping[str, Answer] | None = None,
    translate: Callable[[Any], Any] = _unchanged,
) -> None:
    """Serve until the program is ended. Its argument is a file with ``socket``, ``address``, ``port``, ``rune`` and
    ``trust`` as JSON; systemd is told when the socket is there.
    """
    asyncio.run(_serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), methods, answers or {}, translate))


async def _serve(
    config: Mapping[str, Any],
    methods: Mapping[str, Sequence[str]],
    answers: Mapping[str, Answer],
    translate: Callable[[Any], Any],
) -> None:
    node = Node(config["address"], int(config["port"]), config["rune"], config["trust"])
    gateway = Gateway(node, methods, answers, translate)
    # asyncio removes the socket of one that was killed.
    server = await asyncio.start_unix_server(gateway.serve, config["socket"])
    _notify("READY=1")
    async with server:
        await server.serve_forever()


def _notify(state: str) -> None:
    """Tell systemd, if it wants to know."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect(f"\0{address[1:]}" if address.startswith("@") else address)
            connection.send(state.encode())
