# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The streams of a command in an instance: websockets that are read and fed side by side.

What comes in was written by the instance. So it has a bound, and every wait for it an end that data does not defer.
"""

from __future__ import annotations

import contextlib
import re
import select
import ssl
import time
from typing import Any, BinaryIO

from .._base.read import read_number
from .client import Client, Operation
from .lxd_errors import LxdError, TooMuchOutput

try:
    import websocket
except ImportError:  # the sanity tests import this file without the libraries
    BROKEN: tuple[type[Exception], ...] = (OSError,)
else:
    BROKEN = (OSError, websocket.WebSocketException)

CHUNK = 64 * 1024
#: bytes of each output that are kept; a command that writes more is killed
MOST = 16 * 2**20


class OutputStream:
    """One output up to its mark, ``MARK STATUS``; what follows it is ignored.

    ``sink`` takes what comes; without one, ``data`` holds it, ``most`` bytes at most.
    """

    def __init__(self, mark: str, sink: BinaryIO | None = None, most: int = MOST) -> None:
        self._end = re.compile(rb"%s ([a-z0-9-]{1,20})\n" % mark.encode())
        self._keep = len(mark) + 22
        self._sink = sink
        self._most = most
        self.data = bytearray()
        self.status: str | None = None

    def add(self, data: bytes) -> None:
        """Take what came. Raises TooMuchOutput."""
        if self.status is not None:
            return
        seen = max(0, len(self.data) - self._keep)
        self.data += data
        if found := self._end.search(self.data, seen):
            self.status = found[1].decode()
            del self.data[found.start() :]
        if self._sink is not None:
            size = len(self.data) - (0 if found else self._keep)
            if size > 0:
                self._sink.write(self.data[:size])
                del self.data[:size]
        elif len(self.data) > self._most + (0 if found else self._keep):
            raise TooMuchOutput(f"wrote more than {self._most} bytes")

    def close(self) -> None:
        """Hand on what was held back in case that it was the beginning of a mark."""
        if self._sink is not None and self.status is None:
            self._sink.write(self.data)
            self.data.clear()


def exit_status(text: str) -> int:
    """The exit status in a mark. Raises LxdError: root of the instance can forge a mark."""
    try:
        return read_number(text, 0, 255)
    except ValueError:
        raise LxdError(
            "its status",
            f'is given as "{text}", which is not an exit status',
            "see what runs as root there",
            code="damaged",
        ) from None


class Output:
    """Both outputs of a command."""

    def __init__(
        self, mark: str, sink: BinaryIO | None = None, errors: BinaryIO | None = None, most: int = MOST
    ) -> None:
        self.streams = {"1": OutputStream(mark, sink, most), "2": OutputStream(mark, errors, most)}

    @property
    def ended(self) -> bool:
        return all(stream.status is not None for stream in self.streams.values())

    @property
    def status(self) -> str:
        return str(self.streams["1"].status)

    @property
    def stdout(self) -> bytes:
        return bytes(self.streams["1"].data)

    @property
    def stderr(self) -> bytes:
        return bytes(self.streams["2"].data)

    def tail(self) -> str:
        """The end of what was written, for a message."""
        return (self.stdout + self.stderr)[-2000:].decode(errors="replace").strip()


class Streams:
    """The websockets of a command that was started; nothing here blocks for longer than its deadline."""

    def __init__(self, client: Client, operation: Operation) -> None:
        self._stack = contextlib.ExitStack()
        self._outgoing = bytearray()
        try:
            self._sockets = connect(client, operation, self._stack)
        except BaseException:
            self._stack.close()
            raise
        self._open = {"1", "2"}

    def close(self) -> None:
        self._stack.close()

    @property
    def is_sending(self) -> bool:
        """Whether there is input that the instance has not taken yet."""
        return bool(self._outgoing)

    @property
    def is_open(self) -> bool:
        """Whether anything may still be written."""
        return bool(self._open)

    @property
    def is_whole(self) -> bool:
        """Whether neither output has ended."""
        return len(self._open) == len("12")

    def feed(self, data: bytes) -> None:
        """Put bytes on the standard input; `take` sends them."""
        for begin in range(0, len(data), CHUNK):
            frame = websocket.ABNF.create_frame(data[begin : begin + CHUNK], websocket.ABNF.OPCODE_BINARY)
            self._outgoing += frame.format()

    def end_input(self) -> None:
        """End the standard input, behind what it was fed (LXD has an empty text message say so)."""
        self._outgoing += websocket.ABNF.create_frame("", websocket.ABNF.OPCODE_TEXT).format()

    def control(self, message: str) -> None:
        """Send a message of the API's control stream, unless the command has ended."""
        with contextlib.suppress(*BROKEN):
            self._sockets["control"].send(message)

    def await_end(self, seconds: float) -> bool:
        """Whether the command itself ends in that time: LXD closes this stream then, even if others stay open."""
        end = time.monotonic() + seconds
        control = self._sockets["control"]
        while (left := end - time.monotonic()) > 0:
            if (pending(control.sock) or select.select([control.sock], [], [], left)[0]) and receive(control) is None:
                return True
        return False

    def take(self, output: Output, end: float | None) -> bool:
        """Wait for one of the streams and serve it; False if ``end`` (of the monotonic clock) comes first."""
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return False
        readers = {self._sockets[name].sock: name for name in self._open}
        sending = self._sockets["0"].sock
        ready = [sock for sock in readers if pending(sock)]
        writable: list[Any] = []
        if not ready or self._outgoing:
            wait = 0 if ready else left
            found, writable, _x = select.select(list(readers), [sending] if self._outgoing else [], [], wait)
            ready = list({*ready, *found})
        if writable:
            self._send(sending)
        for sock in ready:
            data = receive(self._sockets[readers[sock]])
            if data is None:
                self._open.discard(readers[sock])
            else:
                output.streams[readers[sock]].add(data)
        return bool(ready or writable)

    def _send(self, sock: Any) -> None:
        """Send what goes at once. It is not a fault if a command ended without reading all of its input."""
        before = sock.gettimeout()
        sock.settimeout(0)
        try:
            del self._outgoing[: sock.send(self._outgoing[:CHUNK])]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self._outgoing.clear()
        finally:
            sock.settimeout(before)


def pending(sock: Any) -> bool:
    """Whether TLS holds a frame that select() on the socket cannot see."""
    return bool(getattr(sock, "pending", int)())


def connect(client: Client, operation: Operation, stack: contextlib.ExitStack) -> dict[str, Any]:
    """The websockets of a command that was started, "0", "1", "2" and "control"; closed with the stack."""
    fds = {}
    # The command begins once 0, 1 and 2 are connected; one that ends at once would refuse a "control" that comes last.
    for fd, secret in sorted(operation.metadata["metadata"]["fds"].items(), reverse=True):
        raw = client.connect()
        stack.callback(raw.close)
        url = f"ws://lxd/1.0/operations/{operation.id}/websocket?secret={secret}"
        fds[fd] = websocket.create_connection(url, socket=raw, suppress_origin=True, enable_multithread=False)
        # for the rest of a frame that has begun; the wait for its beginning has its own deadline
        raw.settimeout(client.timeout)
    return fds


def receive(sock: Any) -> bytes | None:
    """What one frame brings to a stream; None at its end (LXD says so by an empty text message, or by closing)."""
    try:
        frame = sock.recv_frame()
    except BROKEN:
        return None
    if frame.opcode == websocket.ABNF.OPCODE_PING:
        # The answer of a command that has ended is not needed; its output is still to be read.
        with contextlib.suppress(*BROKEN):
            sock.pong(frame.data)
    if frame.opcode in (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG):
        return b""
    return frame.data if frame.opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_CONT) else None
