# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs that run in an instance: JSON in, JSON out."""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd import programs
from ansible_collections.bcm.core.plugins.module_utils._lxd.guest_libraries import libraries_of
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program, ask_programs


@pytest.fixture(autouse=True)
def instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine in place of the instance."""

    def run(_client: Any, _instance: str, command: lxd_exec.Command, **_options: Any) -> lxd_exec.ExecResult:
        argv = [sys.executable, *command.argv[1:]]
        done = subprocess.run(argv, input=command.stdin, capture_output=True, check=False)
        return lxd_exec.ExecResult(done.returncode, done.stdout, done.stderr)

    monkeypatch.setattr(lxd_exec, "run", run)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return tmp_path / "look.py"


def ask(program: Path, source: str, shape: Any = dict, **request: Any) -> dict[str, Any]:
    client: Any = None
    program.write_text(source)
    return ask_program(client, "echo", program, request, shape=shape, deadline=120.0)


def test_program_reads_its_request_and_its_answer_is_returned(program: Path) -> None:
    source = "import json, sys\nprint(json.dumps({'read': json.load(sys.stdin), 'name': __name__}))"
    assert ask(program, source, a=[1, "ä"]) == {"read": {"a": [1, "ä"]}, "name": "__main__"}


@pytest.mark.parametrize("package", ["bcm_guest", ""])
def test_program_imports_libraries_that_import_each_other(program: Path, package: str) -> None:
    source = f"from {package}.tor_state import connected\nprint('{{\"of\": \"%s\"}}' % connected.__module__)"
    assert ask(program, source) == {"of": "bcm_guest.tor_control"}


@pytest.mark.parametrize(
    ("source", "libraries"),
    [
        ("import json\nprint('bcm_guest')", []),
        ("from bcm_guest.volume_files import read_file", ["volume_files"]),
        ("def late():\n    import bcm_guest.volume_files as files", ["volume_files"]),
        ("from . import (\n    revocation,\n    volume_files,\n)", ["prove", "revocation", "volume_files"]),
        ("from bcm_guest import tor_status", ["tor_control", "tor_status"]),
    ],
)
def test_libraries_that_are_imported_come_along(program: Path, source: str, libraries: list[str]) -> None:
    program.write_text(source)
    assert list(libraries_of([program])) == libraries


def test_answer_has_the_shape_that_is_asked_for(program: Path) -> None:
    assert ask(program, "print('{\"a\": [1]}')", {"a": [int]}) == {"a": [1]}
    message = r'^look.py in instance echo printed "{..a..: 1}", which is not an answer of that program: check which '
    with pytest.raises(LxdError, match=message) as raised:
        ask(program, "print('{\"a\": 1}')", {"a": [int]})
    assert raised.value.code == "damaged"


@pytest.mark.parametrize("source", ["print('token')", "print('{\"token\": 1}')"])
def test_answer_that_holds_secrets_is_in_no_message(program: Path, source: str) -> None:
    client: Any = None
    program.write_text(source)
    with pytest.raises(LxdError, match=r"^look.py in instance echo printed something, which is not an? ") as raised:
        ask_program(client, "echo", program, {}, shape={"credentials": dict}, deadline=120.0, sensitive=True)
    assert "token" not in str(raised.value)


def test_program_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    client: Any = None
    with pytest.raises(BcmError, match=r"^Program .*/none.py cannot be read: .*: correct the path, or write"):
        ask_program(client, "echo", tmp_path / "none.py", {}, deadline=120.0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys; sys.exit('it is broken')", "look.py in instance echo failed: it is broken"),
        ("raise KeyError('height')", "look.py in instance echo failed: KeyError: 'height'"),
        ("import sys; sys.exit(3)", "look.py in instance echo failed: exit status 3"),
        ("import bcm_guest.no", "look.py in instance echo failed: ModuleNotFoundError: No module named 'bcm_guest.no'"),
        ("print('all is well')", 'look.py in instance echo printed "all is well", which is not a JSON object: have it'),
        ("print([])", 'look.py in instance echo printed "[]", which is not a JSON object: have it'),
        ("", 'look.py in instance echo printed "", which is not a JSON object: have it'),
    ],
)
def test_failure_names_program_and_instance(program: Path, source: str, message: str) -> None:
    with pytest.raises(LxdError) as raised:
        ask(program, source)
    assert str(raised.value).startswith(message)


def test_programs_run_one_after_another_until_one_fails(tmp_path: Path) -> None:
    client: Any = None
    sources = {
        "first": "import json, sys\nprint(json.dumps(json.load(sys.stdin)))\nsys.exit()",
        "second": "import json, sys\nif json.load(sys.stdin).get('fails'): sys.exit('it is broken')\nprint('{}')",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    first, second = (tmp_path / f"{name}.py" for name in sources)

    def asked(*programs: tuple[Path, dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
        answers, fault = ask_programs(client, "echo", programs, deadline=120.0)
        return answers, str(fault or "")

    assert asked((first, {"a": 1}), (second, {})) == ([{"a": 1}, {}], "")
    broken = "second.py in instance echo failed: it is broken"
    assert asked((first, {"a": 1}), (second, {"fails": True})) == ([{"a": 1}], broken)
    assert asked((second, {"fails": True}), (first, {"a": 1})) == ([], broken)
    (tmp_path / "first.py").write_text("print('token')")
    answers, fault = asked((first, {}), (second, {}))
    assert (answers, fault.startswith("first.py in instance echo printed")) == ([], True)


TRY = """
import fcntl, json, sys
with open(json.load(sys.stdin)["lock"], "a") as lock:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        print('{"alone": false}')
    except BlockingIOError:
        print('{"alone": true}')
"""


def test_program_that_changes_something_excludes_others_like_it(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client: Any = None
    lock = tmp_path / "lock"
    monkeypatch.setattr(programs, "_LOCK", str(lock))
    program.write_text(TRY)
    tried = (program, {"lock": str(lock)})
    for exclusive, found in ((True, [{"alone": True}, {"alone": False}]), (False, [{"alone": False}] * 2)):
        assert ask_programs(client, "echo", [tried, tried], deadline=120.0, exclusive=exclusive) == (found, None)
    with lock.open("a") as held, ThreadPoolExecutor() as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        later = pool.submit(ask_programs, client, "echo", [tried], deadline=120.0, exclusive=True)
        waits = f"-> FLOCK  ADVISORY  WRITE [0-9]+ [0-9a-f:]+:{lock.stat().st_ino} "
        while not re.search(waits, Path("/proc/locks").read_text()):
            assert not later.done()
        fcntl.flock(held, fcntl.LOCK_UN)
        assert later.result() == ([{"alone": True}], None)
