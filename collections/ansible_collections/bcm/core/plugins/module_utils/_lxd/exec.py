# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands in instances: one POST and four websockets; about 13 ms."""

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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from .client import Client, Operation, quoted
from .lxd_errors import DeadlineExceeded, Forbidden, LxdError, NotFound, NotRun, TooMuchOutput, Unreachable
from .streams import BROKEN, CHUNK, MOST, Output, Streams, connect, exit_status, receive

# What a command leaves running may hold its outputs open, and LXD tells of its end only once they are closed. So it
# says itself that it has ended, with a mark on each of them. What it needs is looked for first: LXD would run it in /
# if its directory is missing. LXD kills the shell; the kernel then kills the command.
_MARKED = """
mark=$1 directory=$2 program=$3
shift 3
end() {
  printf '%s %s\\n' "$mark" "$1"
  printf '%s %s\\n' "$mark" "$1" >&2
  exit
}
unset CDPATH
[ -z "$directory" ] || cd "$directory" 2>/dev/null || end no-directory
command -v setpriv >/dev/null || end no-setpriv
command -v -- "$program" >/dev/null || end no-program
(exec setpriv --pdeathsig=KILL "$@")
end $?
"""
_KILLED_WITHIN = 3.0  # seconds that the kernel has to end a command that is killed

# LXD 5.0 loses what a command on a terminal writes last, now and then, when it ends right afterwards. So it ends when
# what it wrote has been read: it says so with a mark, and waits for a line.
_WAITING = """
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
class Command:
    """A command to run in an instance.

    ``user`` and ``group`` are numeric ids that the API sets; ``privileges`` are options of setpriv. Without ``cwd`` it
    starts in the home directory of root. Messages call it ``name``, or by its program.
    """

    argv: Sequence[str]
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    group: int | None = None
    privileges: Sequence[str] = ()
    cwd: str | None = None
    name: str = ""

    @property
    def label(self) -> str:
        return self.name or self.argv[0]


@dataclass(frozen=True)
class ExecResult:
    """The exit status of a command and its output."""

    returncode: int
    stdout: bytes
    stderr: bytes


def run(
    client: Client,
    instance: str,
    command: Command,
    *,
    deadline: float | None = None,
    sinks: tuple[BinaryIO, BinaryIO] | None = None,
    most: int = MOST,
) -> ExecResult:
    """Run a command; ``deadline`` is in seconds (None: as long as it takes). It is over when the command itself ends.

    ``sinks`` take what is written to both outputs; without them, no more than ``most`` bytes of each are kept. Raises
    NotRun if the directory or the program is missing; past the deadline and for more output, DeadlineExceeded and
    TooMuchOutput, and the command is killed.
    """
    mark = secrets.token_hex(16)
    wrapped = ["/bin/sh", "-c", _MARKED, "sh", mark, command.cwd or "", command.argv[0]]
    wrapped += [*command.privileges, "--", *command.argv]
    operation = start(client, instance, replace(command, argv=wrapped, cwd=None))
    end = None if deadline is None else time.monotonic() + deadline
    sink, errors = sinks or (None, None)
    output = Output(mark, sink, errors, most)
    streams = Streams(client, operation)
    try:
        streams.feed(command.stdin)
        streams.end_input()
        while streams.is_open and not output.ended:
            if not streams.take(output, end):
                fate, written = _kill(streams), output.tail()
                after = f" after writing: {written}" if written else ""
                raise DeadlineExceeded(
                    f"{command.label} in instance {instance}", f"did not end within {deadline:g} s; {fate}{after}"
                )
    except TooMuchOutput as error:
        raise TooMuchOutput(f"{command.label} in instance {instance} {error}; {_kill(streams)}") from None
    finally:
        streams.close()
    return ExecResult(_status(client, instance, command, operation, output), output.stdout, output.stderr)


def _kill(streams: Streams) -> str:
    """Kill a command, and return the result in words."""
    streams.control(json.dumps({"command": "signal", "signal": int(signal.SIGKILL)}))
    return "it was killed" if streams.await_end(_KILLED_WITHIN) else "it could not be killed"


def _status(client: Client, instance: str, command: Command, operation: Operation, output: Output) -> int:
    """Return the exit status, from the mark; without one, the shell was killed or was never started."""
    name, cwd = command.label, command.cwd
    if not output.ended:
        for stream in output.streams.values():
            stream.close()
        return int(_finish(client, instance, name, operation, client.timeout).get("return", -1))
    if output.status == "no-directory":
        raise NotRun(f"{name} in instance {instance}", f"was not run: {cwd} is not a directory there", "create it")
    if output.status == "no-program":
        raise NotRun(f"{name} in instance {instance}", "was not run: there is no such program", code="missing_program")
    if output.status == "no-setpriv":
        raise NotRun(
            f"{name} in instance {instance}",
            "was not run: setpriv is missing there (util-linux has it)",
            code="missing_program",
        )
    try:
        return exit_status(output.status)
    except LxdError as error:
        raise LxdError(f"{name} in instance {instance}:", str(error), code="damaged") from None


def interactive(
    client: Client,
    instance: str,
    command: Command,
    *,
    show: Callable[[bytes], bytes] = bytes,
) -> int:
    """Run a command on the caller's terminal (a PTY in the instance), which is always restored; return its exit status.

    ``show`` converts each piece of its output to what the terminal gets.
    """
    size = shutil.get_terminal_size()
    mark = f"\033]{secrets.token_hex(8)}\a"
    environment = {"TERM": os.environ.get("TERM", "xterm"), **command.environment}
    wrapped = replace(command, argv=["sh", "-c", _WAITING, "sh", mark, *command.argv], environment=environment)
    operation = start(client, instance, wrapped, interactive=True, width=size.columns, height=size.lines)
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()
    with contextlib.ExitStack() as stack:
        fds = connect(client, operation, stack)

        for sock in fds.values():
            sock.sock.settimeout(None)  # a person may type at any time

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
        filtered = _MarkedOutput(mark.encode())
        while True:
            ready = select.select(sources, [], [])[0]
            if stdin in ready:
                data = os.read(stdin, CHUNK)
                if data:
                    fds["0"].send_binary(data)
                else:
                    sources.remove(stdin)
                    fds["0"].send_binary(b"\x04")
            if fds["0"].sock in ready:
                output = receive(fds["0"])
                shown = show(filtered.remainder() if output is None else filtered.visible(output))
                while shown:
                    shown = shown[os.write(stdout, shown) :]
                if output is None:
                    break
                if filtered.ended and stdin in sources:
                    sources.remove(stdin)
                    fds["0"].send_binary(b"\n")
        with contextlib.suppress(*BROKEN):
            # The command counts as running until its terminal is hung up from this side, too.
            fds["0"].send_close()
        status = _finish(client, instance, command.label, operation, 3600.0)
    return int(status.get("return", -1))


class _MarkedOutput:
    """Output that a mark ends, which may arrive in pieces; the mark and what follows it are not shown."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._pending = b""
        self.ended = False

    def visible(self, output: bytes) -> bytes:
        """Return what can be shown now: all but an end that may be the beginning of the mark."""
        if self.ended:
            return b""
        before, found, _after = (self._pending + output).partition(self._mark)
        self.ended = bool(found)
        length = next((size for size in range(len(self._mark) - 1, 0, -1) if before.endswith(self._mark[:size])), 0)
        length = 0 if found else length
        self._pending = before[len(before) - length :]
        return before[: len(before) - length]

    def remainder(self) -> bytes:
        """Return what was held back, at the end of the output."""
        pending, self._pending = self._pending, b""
        return pending


def start(client: Client, instance: str, command: Command, **options: Any) -> Operation:
    """Start a command whose streams are websockets; the caller sends its input, and sets its privileges.

    ``options`` are those of the API (interactive, width, height).
    """
    given = {"user": command.user, "group": command.group, "cwd": command.cwd}
    body = {
        "command": list(command.argv),
        "environment": dict(command.environment),
        "wait-for-websocket": True,
        **{key: value for key, value in given.items() if value is not None},
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
            raise NotRun(f'Instance "{instance}"', "is not running", "start it first") from error
        raise error.within(f"Failed to run a command in instance {instance}") from error


def _finish(client: Client, instance: str, name: str, operation: Operation, deadline: float) -> dict[str, Any]:
    what = f"run {name} in instance {instance}"
    try:
        return client.wait(operation, what=what, deadline=deadline)
    except DeadlineExceeded:
        raise
    except LxdError as error:
        raise error.within(f"Failed to {what}") from error
