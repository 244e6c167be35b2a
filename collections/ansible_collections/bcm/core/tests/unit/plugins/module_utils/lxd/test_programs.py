# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs that run in an instance: JSON in, JSON out."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.errors import LxdError
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program

LIBRARIES = {"greeting": "from .word import WORD\n\ndef greet(name): return f'{WORD} {name}'", "word": "WORD = 'hello'"}


@pytest.fixture(autouse=True)
def instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine in place of the instance."""

    def run(_client: Any, _instance: str, command: lxd_exec.Command, **_options: Any) -> lxd_exec.ExecResult:
        argv = [sys.executable, *command.argv[1:]]
        done = subprocess.run(argv, input=command.stdin, capture_output=True, check=False)
        return lxd_exec.ExecResult(done.returncode, done.stdout, done.stderr)

    monkeypatch.setattr(lxd_exec, "run", run)


def ask(program: str, **request: Any) -> dict[str, Any]:
    client: Any = None
    return ask_program(client, "echo", "look.py", program, request, libraries=LIBRARIES, deadline=5.0)


def test_program_reads_its_request_and_its_answer_is_returned() -> None:
    program = "import json, sys\nprint(json.dumps({'read': json.load(sys.stdin), 'name': __name__}))"
    assert ask(program, a=[1, "ä"]) == {"read": {"a": [1, "ä"]}, "name": "__main__"}


def test_program_imports_libraries_that_import_each_other() -> None:
    program = "import json\nfrom bcm_guest.greeting import greet\nprint(json.dumps({'said': greet('you')}))"
    assert ask(program) == {"said": "hello you"}


@pytest.mark.parametrize(
    ("program", "message"),
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
def test_failure_names_program_and_instance(program: str, message: str) -> None:
    with pytest.raises(LxdError) as raised:
        ask(program)
    assert str(raised.value).startswith(message)
