# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A shell kept open in an instance: many commands for one exec.

Starting a process through the API costs about 15 ms of the machine's time, handing a command to a shell that already
runs 1 ms. What an Ansible module needs is half a dozen commands, so this is what makes the connection plugin quick.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import BinaryIO

from .._base.read import read_id
from . import exec as _exec
from .client import Client, quoted
from .lxd_errors import DeadlineExceeded, LxdError, NotFound, NotRun, TooMuchOutput
from .streams import MOST, Output, Streams, exit_status

# One line of standard input is one command. The standard input of a command comes in chunks behind it, each after a
# line with its length, the last one empty; `dd` takes exactly that many bytes and no more, whether the command reads
# them or not, so that the next line is a command again. A command may leave something running that holds the outputs:
# its output would be taken for the next command's, so it is searched for among the processes that were not there when
# the shell started. Process IDs must not be compared, since they wrap around at pid_max. Only a process that can write
# to the outputs counts (O_WRONLY and O_RDWR, 1 and 2, in the flags of proc_pid_fdinfo(5)). Not found are one that moves
# an output to another file descriptor at that very moment, and one that got the ID of a process that was there.
# A POSIX sh whose test knows -ef (dash, bash and busybox do) and the dd of GNU or busybox are enough.
_LOOP = """\
nl='
'
feed() {
  exec 2>/dev/null
  while read -r size && [ "$size" -gt 0 ]; do dd bs="$size" count=1 iflag=fullblock; done
}
end() {
  held=free
  for process in /proc/[0-9]*; do
    eval "older=\\${older_${process#/proc/}-}"
    if [ -z "$older" ] && ! [ "$process" -ef /proc/self ]; then
      for file in "$process"/fd/*; do
        if [ "$file" -ef /proc/$$/fd/1 ] || [ "$file" -ef /proc/$$/fd/2 ]; then
          { while read -r key value; do
              case $key$value in flags:*[12]) held=held ;; esac
            done <"$process/fdinfo/${file##*/}"; } 2>/dev/null
        fi
      done
    fi
  done
  printf '%s %d-%s\\n' "$1" "$2" $held
  printf '%s %d-%s\\n' "$1" "$2" $held >&2
}
cd 2>/dev/null || cd /
for process in /proc/[0-9]*; do eval "older_${process#/proc/}=yes"; done
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


def find_user(client: Client, instance: str, name: str) -> User:
    """Look a user up in the instance; NotRun if there is none."""
    for fields in _entries(client, instance, "/etc/passwd"):
        if fields[0] == name and len(fields) == 7:
            own, group = read_id(fields[2]), read_id(fields[3])
            if own is not None and group is not None:
                return User(name, own, group, fields[5] or "/", fields[6] or "/bin/sh")
    raise NotRun(f'Instance "{instance}"', f'has no user "{name}" in /etc/passwd')


def find_group(client: Client, instance: str, name: str) -> int:
    """The id of a group of the instance, by its name or as a number; NotRun if there is none."""
    number = read_id(name)
    if number is not None:
        return number
    for fields in _entries(client, instance, "/etc/group"):
        if fields[0] == name and len(fields) == 4 and (number := read_id(fields[2])) is not None:
            return number
    raise NotRun(f'Instance "{instance}"', f'has no group "{name}" in /etc/group')


def _entries(client: Client, instance: str, database: str) -> list[list[str]]:
    try:
        content = client.download(f"/1.0/instances/{quoted(instance)}/files?path={database}")
    except NotFound as error:
        if client.find(f"/1.0/instances/{quoted(instance)}") is None:
            raise client.no_instance(instance) from error
        return []
    return [line.split(":") for line in content.decode(errors="replace").splitlines()]


def as_user(command: _exec.Command, user: User, group: int | None = None) -> _exec.Command:
    """Return the command to be run as a user, with all groups of that user; the environment of the command prevails.

    The API itself sets a user and one group only; sudo's rules and files want the others too.
    """
    privileges = [f"--reuid={user.uid}", f"--regid={user.gid if group is None else group}", "--init-groups"]
    environment = {"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": user.shell}
    # The home of root, where a command starts otherwise, is closed to other users.
    return replace(
        command,
        privileges=privileges,
        environment={**environment, **command.environment},
        cwd=command.cwd or "/",
    )


class Shell:
    """A ``/bin/sh`` in an instance, as ``user`` (root if None) in its home directory, with all its groups.

    When a command has left something running that can still write, the next one gets a shell of its own.
    """

    def __init__(self, client: Client, instance: str, *, user: User | None = None) -> None:
        self._client = client
        self._instance = instance
        self._mark = secrets.token_hex(16)
        command = _exec.Command(["/bin/sh", "-c", _LOOP])
        if user:
            command = as_user(command, user)
            command = replace(command, argv=["setpriv", *command.privileges, *command.argv], cwd=None)
        self._command = command
        self._needs_new_shell = False
        self._open()

    def _open(self) -> None:
        self._operation = _exec.start(self._client, self._instance, self._command)
        self._streams = Streams(self._client, self._operation)

    def close(self) -> None:
        """Close the streams: the shell ends when its standard input does."""
        self._streams.close()

    def run(
        self,
        command: str,
        *,
        stdin: Iterable[bytes] = (),
        converse: Callable[[bytes, bytes], bytes | None] | None = None,
        patience: float = 30.0,
        sink: BinaryIO | None = None,
        deadline: float | None = None,
        most: int = MOST,
    ) -> _exec.ExecResult:
        """Run a shell command, fed with the chunks of ``stdin``, for ``deadline`` seconds (None: as long as it takes).

        ``converse`` is called with all output so far whenever there is more of it, before ``stdin`` is fed: it answers
        None to see more, bytes to feed them at once, and no bytes when the talk is over. It has ``patience`` seconds.

        ``sink`` takes the standard output instead of the result, which holds ``most`` bytes of each output: raises
        TooMuchOutput for more.
        """
        if self._needs_new_shell:
            self.close()
            self._open()
            self._needs_new_shell = False
        feeding = converse is not None or bool(stdin)
        # Newlines end the line that is read, so quoting has to do without them.
        quoted_command = shlex.quote(command).replace("\n", "'\"$nl\"'")
        # The mark comes when the command ends, even if it would get more input.
        line = f"{{ /bin/sh -c {quoted_command}; end {self._mark} $?; }}"
        line = f"feed | {line}\n" if feeding else f"{line} </dev/null\n"
        end = None if deadline is None else time.monotonic() + deadline
        output = Output(self._mark, sink, most=most)
        try:
            self._streams.feed(line.encode(errors="surrogateescape"))
            if converse is not None:
                self._talk(output, converse, time.monotonic() + patience)
            if feeding:
                for chunk in stdin:
                    if chunk and not output.ended:
                        self._feed(chunk)
                        while self._streams.is_sending:
                            self._take(output, end, "it did not end within the time that it has")
                self._streams.feed(b"0\n")
            while self._streams.is_sending or not output.ended:
                self._take(output, end, "it did not end within the time that it has")
        except BaseException:
            self.close()  # it is in the middle of a command, so it cannot take another one
            raise
        status, _dash, outputs = output.status.partition("-")
        self._needs_new_shell = outputs != "free"
        try:
            return _exec.ExecResult(exit_status(status), output.stdout, output.stderr)
        except LxdError as error:
            self.close()
            raise LxdError(f"A command in instance {self._instance}:", error, code="too_much_output") from None

    def _talk(self, output: Output, converse: Callable[[bytes, bytes], bytes | None], end: float) -> None:
        seen = None
        while not output.ended:
            written = (output.stdout, output.stderr)
            if written != seen:
                seen = written
                answer = converse(*written)
                if answer == b"":
                    return
                if answer:
                    self._feed(answer)
            self._take(output, end, "neither a prompt nor success in time")

    def _feed(self, chunk: bytes) -> None:
        self._streams.feed(b"%d\n" % len(chunk) + chunk)

    def _take(self, output: Output, end: float | None, fault: str) -> None:
        """Serve the streams once something can be done; ``fault`` is the message if that is not before ``end``."""
        try:
            served = self._streams.take(output, end)
        except TooMuchOutput as error:
            raise TooMuchOutput(f"A command in instance {self._instance} {error}") from None
        if not served:
            written = output.stderr[-2000:].decode(errors="replace").strip()
            raise DeadlineExceeded(f"Instance {self._instance}:", f"{fault}, but: {written}" if written else fault)
        if not self._streams.is_whole and not output.ended:
            raise self._explain_end(output.stderr)

    def _explain_end(self, written: bytes = b"") -> LxdError:
        """Return why the shell has ended, as far as it is known."""
        reason = written.decode(errors="replace").strip()
        if not reason:
            try:
                status = self._client.wait(self._operation, what="end the shell", deadline=2.0)
            except LxdError as error:
                reason = str(error)
            else:
                code = status.get("return")
                reason = f"{self._command.label} is not there" if code == 127 else f"exit status {code}"
        return LxdError(f'The shell in instance "{self._instance}" ended:', reason, code="command_failed")
