# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands and what makes them unnecessary."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base import change_count
from ansible_collections.bcm.core.plugins.module_utils._lxd import commands
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.command_progress import Progress
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import (
    DeadlineExceeded,
    LxdError,
    NotRun,
    TooMuchOutput,
)
from ansible_collections.bcm.core.plugins.module_utils._lxd.shell import User

from .conftest import Server
from .instance import as_instance


class Instance:
    """Says yes to all commands but `false`, and remembers them."""

    def __init__(self) -> None:
        self.ran: list[Sequence[str]] = []
        self.command = lxd_exec.Command([])

    def run(self, _client: Any, _instance: str, command: lxd_exec.Command, **_options: Any) -> lxd_exec.ExecResult:
        argv = command.argv
        self.ran.append(argv)
        self.command = command
        if argv[0] == "late":
            raise DeadlineExceeded("late")
        if argv[0] == "missing":
            raise NotRun("missing")
        return lxd_exec.ExecResult(int(argv[-1] == "false"), b"out", b"err")


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Instance:
    instance = Instance()
    monkeypatch.setattr(lxd_exec, "run", instance.run)
    monkeypatch.setattr(commands, "find_user", lambda *_args: User("alice", 7, 8, "/home/alice", "/bin/sh"))
    return instance


def done(*items: dict[str, Any], check: bool = False) -> commands.CommandsResult:
    return commands.run_commands(None, "one", items, check=check)  # type: ignore[arg-type]


def test_unless(instance: Instance) -> None:
    result = done({"argv": ["make"], "unless": ["true"]}, {"argv": ["paint"], "unless": ["false"]})
    assert instance.ran == [["true"], ["false"], ["paint"]]
    assert [item["executed"] for item in result.commands] == [False, True]
    assert result.changed


def test_check_mode_runs_commands_that_only_read(instance: Instance) -> None:
    result = done({"argv": ["make"], "unless": ["false"]}, {"argv": ["look"], "changed": False}, check=True)
    assert instance.ran == [["false"], ["look"]]
    assert result.changed
    assert not done({"argv": ["look"], "changed": False}).changed


def test_nothing_after_a_failure(instance: Instance) -> None:
    result = done({"argv": ["false"]}, {"argv": ["never"]})
    assert instance.ran == [["false"]]
    assert result.failure == "false in instance one ended with exit status 1: err"
    assert done({"argv": ["false"], "accept": [1]}).failure is None


def test_a_killed_command_counts_as_a_change(instance: Instance) -> None:
    before = change_count.made()
    with pytest.raises(DeadlineExceeded):
        done({"argv": ["late"], "changed": False})
    assert change_count.made() == before
    with pytest.raises(DeadlineExceeded):
        done({"argv": ["late"]}, {"argv": ["never"]})
    assert change_count.made() > before


def test_a_command_that_was_not_run_is_not_a_change(instance: Instance) -> None:
    before = change_count.made()
    # a condition that cannot be tried is none that does not hold
    for item in ({"argv": ["missing"]}, {"argv": ["make"], "unless": ["missing"]}):
        with pytest.raises(NotRun):
            done(item)
    assert change_count.made() == before


@pytest.mark.parametrize("item", [{"chdir": "srv"}, {"creates": "made"}])
def test_relative_paths_are_refused_before_anything_runs(instance: Instance, item: dict[str, str]) -> None:
    with pytest.raises(LxdError, match="is not an absolute path"):
        done({"argv": ["first"]}, {"argv": ["make"], **item})
    assert instance.ran == []


def test_sensitive(instance: Instance) -> None:
    result = done({"argv": ["hidden", "false"], "sensitive": True, "stdin": "hidden"})
    assert "hidden" not in str(result)
    assert instance.command.stdin == b"hidden"


def test_user_and_environment(instance: Instance) -> None:
    done({"argv": ["make"], "user": "alice", "environment": {"JOBS": 2, "HOME": "/srv"}})
    assert instance.ran == [["make"]]
    assert instance.command.privileges == ["--reuid=7", "--regid=8", "--init-groups"]
    assert instance.command.environment == {
        "HOME": "/srv",
        "USER": "alice",
        "LOGNAME": "alice",
        "SHELL": "/bin/sh",
        "JOBS": "2",
    }
    assert instance.command.cwd == "/"


@pytest.mark.parametrize("hidden", [False, True])
def test_no_log_hides_a_result_and_check_mode_shows_what_would_change(
    tmp_path: Path, unix_server: tuple[Server, str], hidden: bool
) -> None:
    server, socket = unix_server
    server.answers_with("GET", "/1.0", {"api_extensions": [], "auth": "trusted"})
    # In check mode a command that would change something is not run, so it takes no instance.
    command = {"endpoint": f"unix://{socket}", "instance": "web", "argv": ["register", "the very token"]}
    play = {"hosts": "localhost", "gather_facts": False}
    play["tasks"] = [{"bcm.core.lxd_exec": command, "no_log": hidden}]
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    root = next(path for path in Path(__file__).parents if path.name == "ansible_collections").parent
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(root), "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    words = ["-i", "localhost,", "-e", "ansible_connection=local", "--check", "-vvv", tmp_path / "play.yml"]
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), *words],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=1" in done.stdout
    assert "skipped=0" in done.stdout
    assert ("the very token" in done.stdout + done.stderr) != hidden


CARGO = {"pattern": r"Building \[.*\] (\d+)/(\d+)", "words": r"crate \1 of \2"}
DRAWN = (
    r"printf '   Compiling syn v2\n    Building [=>     ] 1/213: syn\r    Building [=>     ] 1/213: quote\r' >&2; "
    r"printf '    Building [=======>] 57/213: electrs\r    Finished\n' >&2; printf 'error: no\nlast' >&2; echo out"
)


def test_progress_of_a_command_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with as_instance(monkeypatch) as instance:
        item = {"argv": ["sh", "-c", DRAWN], "progress": CARGO}
        (ran,) = commands.run_commands(instance, "one", [item], notify=told.append).commands  # type: ignore[arg-type]
    assert told == ["crate 1 of 213", "crate 57 of 213"]
    assert (ran["stdout"], ran["stderr"]) == ("out\n", "   Compiling syn v2\n    Finished\nerror: no\nlast")


def test_lines_of_progress_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    lines = r"printf 'fmt\nnet/http\n# net/http\nx.go:1: no\nmain\n' >&2"
    progress = {"pattern": r"^([^\s:]+)$", "words": r"package {count} of 3: \1"}
    with as_instance(monkeypatch) as instance:
        item = {"argv": ["sh", "-c", lines], "progress": progress}
        (ran,) = commands.run_commands(instance, "one", [item], notify=told.append).commands  # type: ignore[arg-type]
    assert told == ["package 1 of 3: fmt", "package 2 of 3: net/http", "package 3 of 3: main"]
    assert ran["stderr"] == "# net/http\nx.go:1: no\n"


@pytest.mark.parametrize("wrong", [{"pattern": "("}, {"words": r"\3"}, {"words": "\\"}])
def test_progress_that_cannot_be_read(instance: Instance, wrong: dict[str, str]) -> None:
    with pytest.raises(LxdError, match="progress: .*: write a regular expression, and words with its groups"):
        done({"argv": ["make"], "progress": {**CARGO, **wrong}})
    assert instance.ran == []


def test_output_of_a_command_with_progress_is_bounded() -> None:
    sink = Progress(re.compile(b"(x)"), rb"\1", lambda _text: None, most=100_000)
    for _turn in range(1000):
        sink.write(b"x" * 1000 + b"\r")
    assert sink.getvalue() == b""
    with pytest.raises(TooMuchOutput):
        for _turn in range(1000):
            sink.write(b"y" * 1000)
