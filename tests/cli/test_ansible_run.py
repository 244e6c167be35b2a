# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a playbook gets from the command beside its words: signals, and its exit status back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import PATIENCE, ROOT

_CALL = """
import signal, sys
from pathlib import Path
from bcm_cli import ansible_run, setup
setup.VENV = Path(sys.argv[1])
status = ansible_run.run_playbook("site.yml", ",", [], {})
print(status, signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The program that plays ansible-playbook."""
    path = tmp_path / "bin/ansible-playbook"
    path.parent.mkdir()
    path.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    path.chmod(0o755)
    return path


@contextmanager
def _started(program: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", _CALL, str(program.parent.parent)]
    called = subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "collections")}, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield called
    finally:
        called.kill()
        called.wait()


def test_exit_status_is_passed_on_and_later_signals_count_again(program: Path) -> None:
    with _started(program) as called:
        output, _errors = called.communicate(timeout=PATIENCE)
    assert output == "site.yml -i ,\n3 False\n"


def test_signal_to_the_command_alone_ends_the_playbook(program: Path) -> None:
    # at the latest, it ends with the command
    loop = "while kill -0 $PPID; do sleep 0.1; done"
    program.write_text(f"#!/bin/sh\ntrap 'echo ends; exit 99' INT\necho runs\n{loop}\n")
    with _started(program) as called:
        assert called.stdout is not None
        assert called.stdout.readline() == "runs\n"
        called.send_signal(signal.SIGTERM)
        output, errors = called.communicate(timeout=PATIENCE)
    assert output == f"ends\n{128 + signal.SIGTERM} False\n"
    assert errors == "bcm: interrupted; the same command continues from there\n"
