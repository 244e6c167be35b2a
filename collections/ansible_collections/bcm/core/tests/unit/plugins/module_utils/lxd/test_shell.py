# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shell that is kept open: its protocol, with a real sh on this machine and websockets that are pipes."""

from __future__ import annotations

import contextlib
import io
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd import shell
from ansible_collections.bcm.core.plugins.module_utils._lxd.errors import DeadlineExceeded, LxdError


class Pipe:
    """A websocket as far as the shell looks."""

    def __init__(self, file: Any) -> None:
        self.sock = file

    def send_binary(self, data: bytes) -> None:
        self.sock.write(data)
        self.sock.flush()


class Server:
    """A client whose instance is this machine."""

    ended = 0

    def wait(self, *_args: Any, **_kwargs: Any) -> dict[str, int]:
        return {"return": self.ended}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(_client: Any, _instance: str, argv: list[str], **_options: Any) -> subprocess.Popen[bytes]:
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0))
        return processes[-1]

    def sockets(_client: Any, process: Any, stack: contextlib.ExitStack) -> dict[str, Pipe]:
        for file in (process.stdin, process.stdout, process.stderr):
            stack.callback(file.close)
        return {"0": Pipe(process.stdin), "1": Pipe(process.stdout), "2": Pipe(process.stderr)}

    monkeypatch.setattr(lxd_exec, "start", start)
    monkeypatch.setattr(lxd_exec, "sockets", sockets)
    # Few bytes at a time: marks come in pieces.
    monkeypatch.setattr(lxd_exec, "receive", lambda pipe: pipe.sock.read(7) or None)
    yield Server()
    for process in processes:
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(10)


@pytest.fixture
def sh(client: Server) -> shell.Shell:
    return shell.Shell(client, "one")  # type: ignore[arg-type]


def ran(sh: shell.Shell, command: str, **options: Any) -> tuple[int, bytes, bytes]:
    result = sh.run(command, **options)
    return result.returncode, result.stdout, result.stderr


def test_streams_and_status(sh: shell.Shell) -> None:
    assert ran(sh, "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert ran(sh, "printf 'no newline'") == (0, b"no newline", b"")


def test_quotes_and_newlines(sh: shell.Shell) -> None:
    assert ran(sh, "echo 'it'\\''s\n\"$nl\"'\necho \"a\nb\" $((1 + 1))")[1] == b'it\'s\n"$nl"\na\nb 2\n'


def test_faulty_command_is_its_own_fault(sh: shell.Shell) -> None:
    assert sh.run("if then )").returncode != 0
    assert sh.run("exit 5").returncode == 5
    assert ran(sh, "echo still there")[1] == b"still there\n"


def test_standard_input(sh: shell.Shell) -> None:
    data = bytes(range(256)) * 40
    assert ran(sh, "cat") == (0, b"", b"")
    assert ran(sh, "cat", stdin=[data]) == (0, data, b"")
    assert ran(sh, "wc -c", stdin=[data, b"", data])[1].strip() == b"20480"


def test_unread_input_is_no_command(sh: shell.Shell) -> None:
    assert ran(sh, "true", stdin=[b"echo gotcha\n" * 1000]) == (0, b"", b"")
    assert ran(sh, "head -c 1", stdin=[b"123", b"456"])[1] == b"1"
    assert ran(sh, "echo next")[1] == b"next\n"


def test_what_runs_on_holds_nothing_up(sh: shell.Shell) -> None:
    code, out, _err = ran(sh, "sleep 60 & echo $!")
    assert code == 0
    assert ran(sh, f"kill {int(out)}")[0] == 0


def test_sink(sh: shell.Shell) -> None:
    sink = io.BytesIO()
    assert ran(sh, "seq 1000", sink=sink) == (0, b"", b"")
    assert sink.getvalue() == b"".join(b"%d\n" % number for number in range(1, 1001))


def test_conversation(sh: shell.Shell) -> None:
    def answer(stdout: bytes, stderr: bytes) -> bytes | None:
        if b"welcome" in stdout:
            return b""
        return b"password\n" if stderr.endswith(b"who? ") and not stdout else None

    command = "printf 'who? ' >&2; read word; echo welcome $word; cat"
    assert ran(sh, command, converse=answer, stdin=[b"data"]) == (0, b"welcome password\ndata", b"who? ")


def test_conversation_that_ends_early(sh: shell.Shell) -> None:
    assert ran(sh, "echo no >&2; exit 1", converse=lambda *_output: None) == (1, b"", b"no\n")
    assert ran(sh, "echo next")[1] == b"next\n"


def test_conversation_without_end(sh: shell.Shell) -> None:
    with pytest.raises(DeadlineExceeded, match="neither a prompt nor success in time, but: hm"):
        sh.run("echo hm >&2; cat", converse=lambda *_output: None, patience=0.3)


def test_end_of_the_shell(sh: shell.Shell, client: Server) -> None:
    with pytest.raises(LxdError, match='The shell in instance "one" ended: exit status 0'):
        sh.run("kill -9 $PPID")


def test_missing_command(client: Server) -> None:
    client.ended = 127
    person = shell.User("alice", 1000, 1000, "/home/alice", "/bin/sh")
    argv, environment = shell.become(person, "games")
    assert argv == ["setpriv", "--reuid=1000", "--regid=games", "--init-groups"]
    assert environment["HOME"] == "/home/alice"
    sh = shell.Shell(client, "one")  # type: ignore[arg-type]
    with pytest.raises(LxdError, match="ended: /bin/sh is not there"):
        sh.run("kill -9 $PPID")
