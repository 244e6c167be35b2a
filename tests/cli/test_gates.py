# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the test command says at its end."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bcm_cli import gates
from bcm_cli.datacenter import UsageError

TESTS = """
import signal
import pytest

@pytest.mark.containers
def test_red(): assert 1 == 2, "the fault"

@pytest.fixture
def broken(): raise ValueError("the other fault")

def test_broken(broken): pass
def test_control_c(): assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
def test_skipped(): pytest.skip("for once")
"""


def test_failures_of_all_parts_are_listed_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gates, "_CACHE", tmp_path / "reports")
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = containers\n")
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", f"--rootdir={tmp_path}", str(tmp_path)]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
    try:
        assert gates._run(command, ("containers", "not containers")) == 1
    finally:
        signal.signal(signal.SIGINT, before)
    said = capfd.readouterr().out
    assert said.index("test_it.py::test_red FAILED") < said.index("test_it.py::test_broken ERROR")
    _parts, red, broken = said.rsplit("\nFAILED ", 2)
    assert red.startswith("test_it::test_red\n") and "AssertionError: the fault" in red
    assert broken.startswith("test_it::test_broken\n") and "ValueError: the other fault" in broken
    assert said.splitlines()[-1] == "1 passed, 2 failed, 1 skipped"


def test_part_without_a_report_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gates, "_CACHE", tmp_path)
    assert gates._run([sys.executable, "-c", "raise SystemExit(3)"], ("containers",)) == 3
    assert capfd.readouterr().out.splitlines()[-1] == "0 passed, 1 failed"


def test_only_what_the_selected_tests_need_is_installed() -> None:
    names = {package.name for package in gates._packages(["tests/gates/test_tools.py::test_ruff"])}
    assert names == {"git"}
    names = {package.name for package in gates._packages(["tests/tor/test_relay.py: 1"])}
    assert names == {"git", "tor", "obfs4proxy"}
    assert gates._packages([]) == ()


@pytest.mark.parametrize(
    ("options", "others"),
    [
        (["--lint"], set()),
        (["--stack", "electrs"], set()),
        (["--stack", "lightning-charge"], {"tests/scripts/test_lightning_charge.py"}),
    ],
)
def test_quick_selections_need_the_virtual_environment_alone(
    monkeypatch: pytest.MonkeyPatch, options: list[str], others: set[str]
) -> None:
    monkeypatch.setenv(gates.STACK, "")  # put back after the test
    parsed, _rest = gates._parser().parse_known_args(options)
    command = [sys.executable, "-m", "pytest", *gates._selection(parsed)]
    selected = gates._selected(command, gates._FAST)
    assert {line.partition(":")[0] for line in selected if line.startswith("tests/")} >= {
        "tests/gates/test_repository.py",
        "tests/gates/test_tools.py",
        *others,
    }
    assert [package.name for package in gates._packages(selected)] == ["git"]


def test_collecting_tests_installs_no_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[object] = []
    monkeypatch.setattr(gates.setup, "virtual_environment", lambda *_unused: None)
    monkeypatch.setattr(gates.setup, "packages", lambda *needed: installed.append(needed))
    monkeypatch.setattr(
        gates.subprocess,
        "run",
        lambda command, **_options: SimpleNamespace(returncode=0, stdout="tests/tor/test_relay.py: 1"),
    )
    words = ["tests/tor", "--collect-only"]
    assert gates.main(argparse.Namespace(arguments=words, yes=False)) == 0
    assert installed == []


def test_unknown_stack_is_refused() -> None:
    parsed, _rest = gates._parser().parse_known_args(["--stack", "electrss"])
    with pytest.raises(UsageError, match='Unknown stack "electrss": did you mean "electrs"'):
        gates._selection(parsed)
