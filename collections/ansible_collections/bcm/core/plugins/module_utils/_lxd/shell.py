# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A shell kept open in an instance: many commands for one exec.

Starting a process through the API costs about 15 ms of the machine's time, handing a command to a shell that already
runs 1 ms. What an Ansible module needs is half a dozen commands, so this is what makes the connection plugin quick.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import select
import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from . import exec as _exec
from .client import Client, quoted
from .errors import DeadlineExceeded, LxdError, NotFound

# One line of standard input is one command. The standard input of a command comes in chunks behind it, each after a
# line with its length, the last one empty; `dd` takes exactly that many bytes and no more, whether the command reads
# them or not, so that the next line is a command again. POSIX's sh and the dd of GNU or busybox are enough.
_LOOP = """\
nl='
'
feed() {
  while read -r size && [ "$size" -gt 0 ]; do dd bs="$size" count=1 iflag=fullblock 2>/dev/null; done
}
cd 2>/dev/null || cd /
while IFS= read -r line; do eval "$line"; done
"""


@dataclass(frozen=True)
class User:
    """An entry of the instance's /etc/passwd."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


def user(client: Client, instance: str, name: str) -> User:
    """Look a user up in the instance; LxdError if there is none."""
    try:
        database = client.stream("GET", f"/1.0/instances/{quoted(instance)}/files?path=/etc/passwd").text
    except NotFound as error:
        if client.find(f"/1.0/instances/{quoted(instance)}") is None:
            raise client.no_instance(instance) from error
        database = ""
    for line in database.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) == 7:
            return User(name, int(fields[2]), int(fields[3]), fields[5] or "/", fields[6] or "/bin/sh")
    raise LxdError(f'Instance "{instance}" has no user "{name}" in /etc/passwd')


def become(person: User, group: str | None = None) -> tuple[list[str], dict[str, str]]:
    """What to put before a command of root's to run it as somebody else, and the environment that goes with it.

    The API itself sets a user and one group only; sudo's rules and files want the others too.
    """
    argv = ["setpriv", f"--reuid={person.uid}", f"--regid={group or person.gid}", "--init-groups"]
    return argv, {"HOME": person.home, "USER": person.name, "LOGNAME": person.name, "SHELL": person.shell}


class Shell:
    """A ``/bin/sh`` in an instance, as ``user`` (root if None) in its home directory, with all its groups."""

    def __init__(self, client: Client, instance: str, *, user: User | None = None) -> None:
        self._client = client
        self._instance = instance
        self._mark = secrets.token_hex(16)
        prefix, environment = become(user) if user else ([], {})
        argv = [*prefix, "/bin/sh", "-c", _LOOP]
        self._argv = argv
        self._stack = contextlib.ExitStack()
        self._operation = _exec.start(client, instance, argv, environment=environment)
        self._sockets = _exec.sockets(client, self._operation, self._stack)

    def close(self) -> None:
        """Let go: the shell ends when its standard input does."""
        self._stack.close()

    def run(
        self,
        command: str,
        *,
        stdin: Iterable[bytes] = (),
        converse: Callable[[bytes, bytes], bytes | None] | None = None,
        patience: float = 30.0,
        sink: BinaryIO | None = None,
    ) -> _exec.ExecResult:
        """Run a shell command, fed with the chunks of ``stdin``.

        Only a command that writes little may be fed more than one chunk: nothing is read while feeding.

        ``converse`` is called with all output so far whenever there is more of it, before ``stdin`` is fed: it answers
        None to see more, bytes to feed them at once, and no bytes when the talk is over. It has ``patience`` seconds.

        ``sink`` takes the standard output instead of the result.
        """
        feeding = converse is not None or bool(stdin)
        # Newlines end the line that is read, so quoting has to do without them.
        quoted_command = shlex.quote(command).replace("\n", "'\"$nl\"'")
        # The mark comes when the command ends, even if it would get more input.
        line = f"{{ /bin/sh -c {quoted_command}; printf '{self._mark} %d\\n' $?; printf '{self._mark} 0\\n' >&2; }}"
        line = f"feed | {line}\n" if feeding else f"{line} </dev/null\n"
        try:
            self._send(line.encode(errors="surrogateescape"))
            output = _Output(self._mark, sink)
            if converse is not None:
                self._talk(output, converse, patience)
            if feeding:
                for chunk in stdin:
                    if chunk and not output.ended:
                        self._feed(chunk)
                self._send(b"0\n")
            while not output.ended:
                self._receive(output, None)
        except BaseException:
            self.close()  # it stands in the middle of a command: no further one can be given to it
            raise
        return _exec.ExecResult(output.returncode, bytes(output.streams["1"].data), bytes(output.streams["2"].data))

    def _talk(self, output: _Output, converse: Callable[[bytes, bytes], bytes | None], patience: float) -> None:
        end = time.monotonic() + patience
        while not output.ended:
            answer = converse(bytes(output.streams["1"].data), bytes(output.streams["2"].data))
            if answer == b"":
                return
            if answer:
                self._feed(answer)
            self._receive(output, end)

    def _feed(self, chunk: bytes) -> None:
        self._send(b"%d\n" % len(chunk) + chunk)

    def _send(self, data: bytes) -> None:
        try:
            self._sockets["0"].send_binary(data)
        except _exec.BROKEN as error:
            raise self._lost() from error

    def _receive(self, output: _Output, end: float | None) -> None:
        """Take what there is on either stream, once there is something."""
        sockets = {self._sockets[fd].sock: fd for fd in output.streams}
        # TLS may hold a whole frame that select() on the socket cannot see.
        ready = [sock for sock in sockets if getattr(sock, "pending", int)()]
        if not ready:
            ready = select.select(list(sockets), [], [], None if end is None else max(0.0, end - time.monotonic()))[0]
        if not ready:
            written = bytes(output.streams["2"].data)[-2000:].decode(errors="replace").strip()
            raise DeadlineExceeded(
                f"Instance {self._instance}: neither a prompt nor success in time"
                + (f", but: {written}" if written else "")
            )
        for sock in ready:
            data = _exec.receive(self._sockets[sockets[sock]])
            if data is None:
                raise self._lost(bytes(output.streams["2"].data))
            output.streams[sockets[sock]].add(data)

    def _lost(self, written: bytes = b"") -> LxdError:
        """Why the shell is gone, as far as anybody knows."""
        reason = written.decode(errors="replace").strip()
        if not reason:
            try:
                status = self._client.wait(self._operation, what="end the shell", deadline=2.0)
            except LxdError as error:
                reason = str(error)
            else:
                code = status.get("return")
                reason = f"{self._argv[0]} is not there" if code == 127 else f"exit status {code}"
        return LxdError(f'The shell in instance "{self._instance}" ended: {reason}')


class _Stream:
    """One output stream up to its mark; what comes behind it belongs to nobody."""

    def __init__(self, mark: str, sink: BinaryIO | None = None) -> None:
        self._end = re.compile(rb"%s (\d+)\n" % mark.encode())
        self._keep = len(mark) + 8
        self._sink = sink
        self.data = bytearray()
        self.status: int | None = None

    def add(self, data: bytes) -> None:
        if self.status is not None:
            return
        seen = max(0, len(self.data) - self._keep)
        self.data += data
        if found := self._end.search(self.data, seen):
            self.status = int(found[1])
            del self.data[found.start() :]
        if self._sink is not None:
            size = len(self.data) - (0 if found else self._keep)
            if size > 0:
                self._sink.write(self.data[:size])
                del self.data[:size]


class _Output:
    """Both output streams of a command."""

    def __init__(self, mark: str, sink: BinaryIO | None) -> None:
        self.streams: dict[str, _Stream] = {"1": _Stream(mark, sink), "2": _Stream(mark)}

    @property
    def ended(self) -> bool:
        return all(stream.status is not None for stream in self.streams.values())

    @property
    def returncode(self) -> int:
        status: Any = self.streams["1"].status
        return int(status)
