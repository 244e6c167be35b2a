# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A port of this machine that leads to one that an instance can reach, over the API alone."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
from collections.abc import Iterator
from threading import Thread
from typing import Any

from .._base.errors import BcmError
from . import exec as lxd_exec
from .client import Client
from .streams import BROKEN, CHUNK, connect, pending, receive

_NOBODY = 65534

# Runs in the instance: copies its input to the connection, and the data of the connection to its output.
_CARRY = """
import os, socket, sys, threading
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def send():
    while data := os.read(0, 65536):
        there.sendall(data)
    there.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := there.recv(65536):
    while data:
        data = data[os.write(1, data):]
"""


@contextlib.contextmanager
def forwarded(client: Client, instance: str, place: str) -> Iterator[int]:
    """A port of 127.0.0.1 whose connections lead to ``place`` (ADDRESS:PORT), as ``instance`` reaches it.

    As long as it is there, every user of this machine can connect to it. It needs nothing of the instance but python3,
    and no rule of any network: each connection is a command that runs there as nobody.
    """
    argv = ["python3", "-c", _CARRY, *place.rsplit(":", 1)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=_serve, args=(client, instance, argv, listener), daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            # closing alone would not wake the thread that waits for the next connection
            listener.shutdown(socket.SHUT_RDWR)


def _serve(client: Client, instance: str, argv: list[str], listener: socket.socket) -> None:
    while True:
        try:
            connection = listener.accept()[0]
        except OSError:
            return
        Thread(target=_carry, args=(client, instance, argv, connection), daemon=True).start()


def _carry(client: Client, instance: str, argv: list[str], connection: socket.socket) -> None:
    """Carry one connection until either side ends it. The client sees a failure as a closed connection."""
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
