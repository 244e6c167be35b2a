# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in instances: one POST, four websockets, one wait; about 11 ms."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .client import Client, Operation, quoted
from .errors import DeadlineExceeded, Forbidden, LxdError, NotFound, Unreachable

try:
    import websocket
except ImportError:  # the sanity tests import this file without the libraries
    BROKEN: tuple[type[Exception], ...] = (OSError,)
else:
    BROKEN = (OSError, websocket.WebSocketException)

_CHUNK = 64 * 1024

# LXD 5.0 loses what a command on a terminal writes last, now and then, when it ends right afterwards. So it ends when
# what it wrote has been read: it says so with a mark, and waits for a line.
_HELD = """
trap : INT QUIT
mark=$1
shift
"$@"
ended=$?
printf %s "$mark"
read -r line
exit $ended
"""


@dataclass(frozen=True)
class ExecResult:
    """How a command ended: exit status, and what it wrote."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(
    client: Client,
    instance: str,
    argv: Sequence[str],
    *,
    stdin: bytes = b"",
    environment: dict[str, str] | None = None,
    user: int | None = None,
    group: int | None = None,
    cwd: str | None = None,
    deadline: float | None = None,
) -> ExecResult:
    """Run a command; ``user`` and ``group`` are numeric ids, ``deadline`` is in seconds (None: as long as it takes).

    Past the deadline the command is killed and DeadlineExceeded carries what it had written.
    """
    operation = start(client, instance, argv, environment=environment, user=user, group=group, cwd=cwd)
    end = None if deadline is None else time.monotonic() + deadline
    with contextlib.ExitStack() as stack:
        fds = sockets(client, operation, stack)
        output = {"1": bytearray(), "2": bytearray()}
        pending = memoryview(stdin)
        if not pending:
            with contextlib.suppress(*BROKEN):  # the command may have ended already
                fds["0"].send("")
        open_fds = {"1", "2"}
        while open_fds:
            left = None if end is None else max(0.0, end - time.monotonic())
            readers = {fds[fd].sock: fd for fd in open_fds}
            # TLS may hold a whole frame that select() on the socket cannot see.
            ready = [s for s in readers if getattr(s, "pending", int)()]
            writable: list[Any] = []
            if not ready:
                ready, writable, _x = select.select(list(readers), [fds["0"].sock] if pending else [], [], left)
            if not ready and not writable:
                with contextlib.suppress(Exception):
                    fds["control"].send(json.dumps({"command": "signal", "signal": int(signal.SIGKILL)}))
                written = bytes(output["1"] + output["2"])[-2000:].decode(errors="replace").strip()
                raise DeadlineExceeded(
                    f"{argv[0]} in instance {instance} did not end within {deadline:g} s; it was killed"
                    + (f" after writing: {written}" if written else "")
                )
            for sock in ready:
                fd = readers[sock]
                data = receive(fds[fd])
                if data is None:
                    open_fds.discard(fd)
                else:
                    output[fd] += data
            if writable:
                try:
                    fds["0"].send_binary(bytes(pending[:_CHUNK]))
                    pending = pending[_CHUNK:]
                    if not pending:
                        fds["0"].send("")
                except BROKEN:
                    pending = memoryview(b"")  # the command ended without reading all of it
        left = 3600.0 if end is None else max(1.0, end - time.monotonic())
        status = _finish(client, instance, argv, operation, left)
    return ExecResult(int(status.get("return", -1)), bytes(output["1"]), bytes(output["2"]))


def interactive(
    client: Client,
    instance: str,
    argv: Sequence[str],
    *,
    environment: dict[str, str] | None = None,
    user: int | None = None,
    group: int | None = None,
    cwd: str | None = None,
) -> int:
    """Run a command on the caller's terminal (a PTY in the instance), which is always restored; its exit status."""
    size = shutil.get_terminal_size()
    mark = f"\033]{secrets.token_hex(8)}\a"
    environment = {"TERM": os.environ.get("TERM", "xterm"), **(environment or {})}
    operation = start(
        client,
        instance,
        ["sh", "-c", _HELD, "sh", mark, *argv],
        environment=environment,
        user=user,
        group=group,
        cwd=cwd,
        interactive=True,
        width=size.columns,
        height=size.lines,
    )
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    with contextlib.ExitStack() as stack:
        fds = sockets(client, operation, stack)

        def resized(*_unused: object) -> None:
            now = shutil.get_terminal_size()
            args = {"width": str(now.columns), "height": str(now.lines)}
            fds["control"].send(json.dumps({"command": "window-resize", "args": args}))

        if os.isatty(stdin):
            before = termios.tcgetattr(stdin)
            stack.callback(termios.tcsetattr, stdin, termios.TCSADRAIN, before)
            stack.callback(signal.signal, signal.SIGWINCH, signal.signal(signal.SIGWINCH, resized))
            tty.setraw(stdin)
        sources = [fds["0"].sock, stdin]
        said = _Marked(mark.encode())
        while True:
            ready = select.select(sources, [], [])[0]
            if stdin in ready:
                data = os.read(stdin, _CHUNK)
                if data:
                    fds["0"].send_binary(data)
                else:
                    sources.remove(stdin)
                    fds["0"].send_binary(b"\x04")
            if fds["0"].sock in ready:
                output = receive(fds["0"])
                shown = said.rest() if output is None else said.of(output)
                while shown:
                    shown = shown[os.write(stdout, shown) :]
                if output is None:
                    break
                if said.ended and stdin in sources:
                    sources.remove(stdin)
                    fds["0"].send_binary(b"\n")
        with contextlib.suppress(*BROKEN):
            # The command counts as running until its terminal is hung up from this side, too.
            fds["0"].send_close()
        status = _finish(client, instance, argv, operation, 3600.0)
    return int(status.get("return", -1))


class _Marked:
    """Output that a mark ends, which may come in pieces; nothing of the mark, and of what follows it, is shown."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._held = b""
        self.ended = False

    def of(self, output: bytes) -> bytes:
        """What is to be shown now: all but an end that may be the beginning of the mark."""
        if self.ended:
            return b""
        before, found, _after = (self._held + output).partition(self._mark)
        self.ended = bool(found)
        length = next((size for size in range(len(self._mark) - 1, 0, -1) if before.endswith(self._mark[:size])), 0)
        length = 0 if found else length
        self._held = before[len(before) - length :]
        return before[: len(before) - length]

    def rest(self) -> bytes:
        """What was held back, when nothing comes any more."""
        held, self._held = self._held, b""
        return held


def start(
    client: Client,
    instance: str,
    argv: Sequence[str],
    *,
    environment: dict[str, str] | None = None,
    user: int | None = None,
    group: int | None = None,
    cwd: str | None = None,
    **options: Any,
) -> Operation:
    """Start a command whose streams are websockets; ``options`` as the API names them (interactive, width, height)."""
    body = {
        "command": list(argv),
        "environment": environment or {},
        "wait-for-websocket": True,
        **{key: value for key, value in (("user", user), ("group", group), ("cwd", cwd)) if value is not None},
        **options,
    }
    try:
        return client.send("POST", f"/1.0/instances/{quoted(instance)}/exec", body)
    except NotFound as error:
        raise client.no_instance(instance) from error
    except (Forbidden, Unreachable):
        raise
    except LxdError as error:
        if "not running" in str(error):
            raise LxdError(f'Instance "{instance}" is not running: start it first') from error
        raise type(error)(f"Failed to run {argv[0]} in instance {instance}: {error}") from error


def _finish(
    client: Client, instance: str, argv: Sequence[str], operation: Operation, deadline: float
) -> dict[str, Any]:
    what = f"run {argv[0]} in instance {instance}"
    try:
        return client.wait(operation, what=what, deadline=deadline)
    except DeadlineExceeded:
        raise
    except LxdError as error:
        raise type(error)(f"Failed to {what}: {error}") from error


def sockets(client: Client, operation: Operation, stack: contextlib.ExitStack) -> dict[str, Any]:
    """The streams of a command that was started, "0", "1", "2" and "control"; closed with the stack."""
    fds = {}
    # The command begins once 0, 1 and 2 are connected; one that ends at once would refuse a "control" that comes last.
    for fd, secret in sorted(operation.metadata["metadata"]["fds"].items(), reverse=True):
        raw = client.connect()
        stack.callback(raw.close)
        url = f"ws://lxd/1.0/operations/{operation.id}/websocket?secret={secret}"
        fds[fd] = websocket.create_connection(url, socket=raw, suppress_origin=True, enable_multithread=False)
        raw.settimeout(None)
    return fds


def receive(sock: Any) -> bytes | None:
    """What one frame brings to a stream; None at its end (LXD says so by an empty text message, or by closing)."""
    try:
        frame = sock.recv_frame()
    except BROKEN:
        return None
    if frame.opcode == websocket.ABNF.OPCODE_PING:
        # Of a command that has ended, nobody waits for the answer; what it wrote is still to be read.
        with contextlib.suppress(*BROKEN):
            sock.pong(frame.data)
    if frame.opcode in (websocket.ABNF.OPCODE_PING, websocket.ABNF.OPCODE_PONG):
        return b""
    return frame.data if frame.opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_CONT) else None
