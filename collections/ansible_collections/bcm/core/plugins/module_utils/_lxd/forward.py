# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports of this machine that lead to what instances can reach, over the API alone."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from .._base.errors import BcmError
from .._guest import carry as program
from . import exec as lxd_exec
from .client import Client
from .guest_libraries import source_of
from .streams import BROKEN, CHUNK, connect, pending, receive

_NOBODY = 65534
_NOT_ALLOWED = 2  # RFC 1928, section 6
_ADDRESS_SIZES = {1: 4, 4: 16}  # IPv4 and IPv6, section 5; a name has its size before it
_SOCKS_PATIENCE = 30.0  # seconds for a request
_PROGRAM = Path(program.__file__)  # runs in the instance


@contextlib.contextmanager
def forwarded(client: Client, instance: str, place: str) -> Iterator[int]:
    """A port of 127.0.0.1 whose connections lead to ``place`` (ADDRESS:PORT), as ``instance`` reaches it.

    As long as it is there, every user of this machine can connect to it. It needs nothing of the instance but python3,
    and no rule of any network: each connection is a command that runs there as nobody.
    """

    def carry(connection: socket.socket) -> None:
        _carry(client, instance, place, connection)

    with _listening(carry) as port:
        yield port


@dataclass(frozen=True)
class Destination:
    """A place (ADDRESS:PORT), and the instance that reaches it."""

    instance: str
    place: str


@contextlib.contextmanager
def socks_proxy(client: Client, destinations: Mapping[tuple[str, int], Destination]) -> Iterator[int]:
    """A port of 127.0.0.1 where a SOCKS proxy (RFC 1928) leads to ``destinations``, by host and port.

    It refuses all others, and resolves no names. See `forwarded` for the rest.
    """

    def carry(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(_SOCKS_PATIENCE)
            found = destinations.get(_read_target(connection) or ("", 0))
            connection.sendall(bytes([5, 0 if found else _NOT_ALLOWED, 0, 1, 0, 0, 0, 0, 0, 0]))
            connection.settimeout(None)
            if found:
                _carry(client, found.instance, found.place, connection)

    with _listening(carry) as port:
        yield port


def _read_target(connection: socket.socket) -> tuple[str, int] | None:
    """The host and port of a SOCKS request to connect; None for any other request. Raises OSError if it is none."""
    version, methods = _read(connection, 2)
    if version != 5 or 0 not in _read(connection, methods):
        raise ConnectionError("it does not speak SOCKS 5 without a password")
    connection.sendall(bytes([5, 0]))
    _version, command, _reserved, kind = _read(connection, 4)
    host = _read(connection, _ADDRESS_SIZES[kind] if kind in _ADDRESS_SIZES else _read(connection, 1)[0])
    port = int.from_bytes(_read(connection, 2), "big")
    if command != 1:
        return None
    return (socket.inet_ntoa(host) if kind == 1 else host.decode("ascii", "replace").lower()), port


def _read(connection: socket.socket, size: int) -> bytes:
    """So many bytes. Raises OSError if the connection ends before."""
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("it ended early")
        data += more
    return data


@contextlib.contextmanager
def _listening(carry: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port of 127.0.0.1 whose connections are carried, each by a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=_serve, args=(carry, listener), daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            # closing alone would not wake the thread that waits for the next connection
            listener.shutdown(socket.SHUT_RDWR)


def _serve(carry: Callable[[socket.socket], None], listener: socket.socket) -> None:
    while True:
        try:
            connection = listener.accept()[0]
        except OSError:
            return
        Thread(target=carry, args=(connection,), daemon=True).start()


def _carry(client: Client, instance: str, place: str, connection: socket.socket) -> None:
    """Carry one connection until either side ends it. The client sees a failure as a closed connection."""
    argv = ["python3", "-c", source_of(_PROGRAM), *place.rsplit(":", 1)]
    with contextlib.suppress(BcmError, *BROKEN), connection, contextlib.ExitStack() as stack:
        operation = lxd_exec.start(client, instance, lxd_exec.Command(argv, user=_NOBODY, group=_NOBODY))
        streams = connect(client, operation, stack)
        try:
            _exchange(streams, connection)
        finally:
            with contextlib.suppress(*BROKEN):
                streams["control"].send(json.dumps({"command": "signal", "signal": int(signal.SIGKILL)}))


def _exchange(streams: dict[str, Any], connection: socket.socket) -> None:
    outputs = {streams[fd].sock: fd for fd in ("1", "2")}
    sources = [connection, *outputs]
    while True:
        ready = [source for source in outputs if pending(source)]
        for source in ready or select.select(sources, [], [])[0]:
            if source is connection:
                if data := connection.recv(CHUNK):
                    streams["0"].send_binary(data)
                else:
                    streams["0"].send("")
                    sources.remove(connection)
                continue
            output = receive(streams[outputs[source]])
            if output is None and outputs[source] == "1":
                return
            if output is None:  # the other one may end first, and leave something to read in this one
                sources.remove(source)
                del outputs[source]
                continue
            if outputs[source] == "1":
                connection.sendall(output)
