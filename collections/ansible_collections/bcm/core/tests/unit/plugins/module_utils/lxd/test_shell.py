# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shell that is kept open: its protocol, with a real sh on this machine and websockets that are pipes."""

from __future__ import annotations

import io
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd import shell
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import DeadlineExceeded, LxdError, TooMuchOutput

from .instance import Instance, as_instance


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with as_instance(monkeypatch) as instance:
        yield instance


@pytest.fixture
def sh(client: Instance) -> shell.Shell:
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


def test_background_process_does_not_delay_the_result(sh: shell.Shell) -> None:
    code, out, _err = ran(sh, "sleep 60 & echo $!")
    assert code == 0
    assert ran(sh, f"kill {int(out)}")[0] == 0


@pytest.mark.parametrize(
    ("held", "fd"), [("exec 2>/dev/null", 1), ("exec >/dev/null", 2), ("exec 7>&1 >/dev/null 2>&1", 7)]
)
def test_late_output_is_not_that_of_the_next_command(sh: shell.Shell, held: str, fd: int, tmp_path: Path) -> None:
    command = f"({held}; while :; do echo late >&{fd}; done) & echo $! >{tmp_path}/pid"
    assert ran(sh, command)[0] == 0
    assert ran(sh, "sleep 0.1; echo mine; echo my error >&2") == (0, b"mine\n", b"my error\n")
    ran(sh, f"kill $(cat {tmp_path}/pid)")


def test_late_output_of_a_process_with_a_smaller_id(sh: shell.Shell, tmp_path: Path) -> None:
    """Process IDs wrap around at pid_max."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    assert ran(sh, f"echo 300 >{last}; (while :; do echo late; done) & echo $! >{tmp_path}/pid")[0] == 0
    assert int((tmp_path / "pid").read_text()) < int(ran(sh, "echo $PPID")[1])
    assert ran(sh, "sleep 0.1; echo mine") == (0, b"mine\n", b"")
    ran(sh, f"kill $(cat {tmp_path}/pid)")


def test_one_shell_is_enough(sh: shell.Shell, client: Instance) -> None:
    ran(sh, "cat", stdin=[b"one"])
    # Until it executes sleep, it is a shell that keeps copies of its former outputs.
    ran(sh, 'sleep 60 >/dev/null 2>&1 & until [ "$(command -v sleep)" -ef /proc/$!/exe ]; do :; done')
    ran(sh, "echo two")
    assert len(client.processes) == 1


def test_process_that_can_only_read_the_outputs_does_not_hold_them(sh: shell.Shell, client: Instance) -> None:
    (process,) = client.processes
    assert process.stdout is not None
    assert process.stderr is not None
    ends = [process.stdout.fileno(), process.stderr.fileno()]
    with subprocess.Popen(["sleep", "60"], pass_fds=ends) as younger:
        for word in (b"one", b"two"):
            assert ran(sh, f"echo {word.decode()}") == (0, word + b"\n", b"")
        younger.kill()
    assert len(client.processes) == 1


def test_output_has_a_bound(sh: shell.Shell) -> None:
    with pytest.raises(TooMuchOutput, match="A command in instance one wrote more than 1000 bytes"):
        sh.run("yes", most=1000)


def test_deadline_fires_while_data_comes(sh: shell.Shell) -> None:
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="it did not end within the time that it has"):
        sh.run("while :; do echo on; done", deadline=0.5)
    with pytest.raises(DeadlineExceeded, match="neither a prompt nor success in time"):
        shell.Shell(sh._client, "one").run("while :; do echo on; done", converse=lambda *_out: None, patience=0.5)
    assert time.monotonic() - begin < 120


def test_deadline_ends_a_command_that_does_not_read_its_input(sh: shell.Shell) -> None:
    with pytest.raises(DeadlineExceeded):
        sh.run("exec sleep 60", stdin=[bytes(1 << 20)] * 4, deadline=0.5)


def test_output_is_read_while_input_is_sent(sh: shell.Shell, client: Instance) -> None:
    client.chunk = 65536
    data = bytes(1 << 20)
    assert sh.run("cat", stdin=[data] * 4).stdout == data * 4


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


def test_end_of_the_shell(sh: shell.Shell, client: Instance) -> None:
    with pytest.raises(LxdError, match='The shell in instance "one" ended: exit status 0'):
        sh.run("kill -9 $PPID")


def test_missing_command(client: Instance) -> None:
    client.ended = 127
    alice = shell.User("alice", 1000, 1000, "/home/alice", "/bin/sh")
    command = shell.as_user(lxd_exec.Command(["id"]), alice, 60)
    assert command.privileges == ["--reuid=1000", "--regid=60", "--init-groups"]
    assert command.environment["HOME"] == "/home/alice"
    sh = shell.Shell(client, "one")  # type: ignore[arg-type]
    with pytest.raises(LxdError, match="ended: /bin/sh is not there"):
        sh.run("kill -9 $PPID")
