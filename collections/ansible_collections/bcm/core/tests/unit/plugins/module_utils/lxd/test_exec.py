# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands: what they write, when they are over, and what stops them; real processes on this machine."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import (
    DeadlineExceeded,
    LxdError,
    NotRun,
    TooMuchOutput,
)
from ansible_collections.bcm.core.plugins.module_utils._lxd.streams import MOST

from .instance import Instance, as_instance


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with as_instance(monkeypatch) as instance:
        yield instance


def ran(
    client: Any, *argv: str, deadline: float | None = None, most: int = MOST, sinks: Any = None, **options: Any
) -> tuple[int, bytes, bytes]:
    command = lxd_exec.Command(argv, **options)
    result = lxd_exec.run(client, "one", command, deadline=deadline, most=most, sinks=sinks)
    return result.returncode, result.stdout, result.stderr


def await_gone(process: Path) -> None:
    end = time.monotonic() + 120
    while process.exists() and process.joinpath("stat").read_text().split()[2] != "Z":
        assert time.monotonic() < end, "it lives"
        time.sleep(0.02)


def test_status_and_outputs(client: Instance) -> None:
    assert ran(client, "sh", "-c", "echo out; printf err >&2; exit 3") == (3, b"out\n", b"err")
    assert ran(client, "sh", "-c", "kill -9 $$")[0] == 137


def test_forged_status_is_refused(client: Instance) -> None:
    # who is root in the instance reads the mark where the kernel shows the arguments of its processes
    forged = r"""mark=$(tr '\0' '\n' </proc/$PPID/cmdline | grep -x '[0-9a-f]\{32\}')
    for status in 0-free; do echo "$mark $status"; echo "$mark $status" >&2; done"""
    with pytest.raises(LxdError, match='its status is given as "0-free", which is not an exit status'):
        ran(client, "sh", "-c", forged, deadline=120)


def test_input(client: Instance) -> None:
    client.chunk = 65536
    data = bytes(range(256)) * 20000
    assert ran(client, "cat", stdin=data, deadline=120) == (0, data, b"")
    assert ran(client, "true", stdin=data) == (0, b"", b"")


def test_environment_and_directory(client: Instance, tmp_path: Path) -> None:
    assert ran(client, "sh", "-c", "pwd; echo $A", cwd=str(tmp_path), environment={"A": "b", "CDPATH": "/"})[1] == (
        f"{tmp_path}\nb\n".encode()
    )


@pytest.mark.parametrize("directory", ["nowhere", "file", "a  $b"])
def test_nothing_runs_without_its_directory(client: Instance, tmp_path: Path, directory: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotRun, match="touch in instance one was not run: .* is not a directory there"):
        lxd_exec.run(client, "one", lxd_exec.Command(["touch", str(tmp_path / "made")], cwd=str(tmp_path / directory)))  # type: ignore[arg-type]
    assert not (tmp_path / "made").exists()


def test_nothing_runs_without_its_program(client: Instance) -> None:
    with pytest.raises(NotRun, match="no-such-thing in instance one was not run: there is no such program"):
        ran(client, "no-such-thing", "x")


def test_it_is_over_when_the_command_ends(client: Instance) -> None:
    begin = time.monotonic()
    code, out, _err = ran(client, "sh", "-c", "sleep 600 & echo $!; exit 4", deadline=500)
    assert code == 4
    assert time.monotonic() - begin < 120
    assert ran(client, "kill", out.decode().strip())[0] == 0


@pytest.mark.parametrize("loop", ["sleep 60", "while :; do echo on; done"])
def test_deadline_kills_the_command(client: Instance, loop: str) -> None:
    with pytest.raises(DeadlineExceeded, match="sh in instance one did not end within 0.5 s; it was killed") as found:
        ran(client, "sh", "-c", f"echo $$; exec 2>/dev/null; {loop}", deadline=0.5)
    pid = str(found.value).partition("writing: ")[2].split()[0]
    if loop == "sleep 60":
        await_gone(Path("/proc") / pid)


def test_output_has_a_bound(client: Instance) -> None:
    client.chunk = 65536
    with pytest.raises(TooMuchOutput, match="yes in instance one wrote more than 5000 bytes; it was killed"):
        ran(client, "yes", most=5000)
    assert len(ran(client, "head", "-c", "5000", "/dev/zero", most=5000)[1]) == 5000


def test_sinks_have_none(client: Instance) -> None:
    client.chunk = 65536
    out, err = io.BytesIO(), io.BytesIO()
    assert ran(client, "sh", "-c", "head -c 9000 /dev/zero; echo e >&2", sinks=(out, err), most=10) == (0, b"", b"")
    assert (out.getvalue(), err.getvalue()) == (bytes(9000), b"e\n")
