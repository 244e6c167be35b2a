# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import unit_states as program
from ansible_collections.bcm.core.plugins.module_utils._guest.unit_states import unit_states


def deploy(folder: Path, monkeypatch: pytest.MonkeyPatch, *units: str, **states: str) -> None:
    """Leave the stamps of units; ``states`` are systemd's, by the name of the unit with "_" for "-"."""
    for unit in units:
        (folder / f"{unit}.digest").touch()

    def is_active(argv: list[str], **_options: object) -> subprocess.CompletedProcess[str]:
        words = [states.get(unit.replace("-", "_"), "inactive") for unit in argv[2:]]
        return subprocess.CompletedProcess(argv, 3, "".join(f"{word}\n" for word in words), "")

    monkeypatch.setattr(program, "_STAMPS", folder)
    monkeypatch.setattr(program.subprocess, "run", is_active)


def test_each_unit_of_the_stack_has_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(tmp_path, monkeypatch, "nginx", "electrs", electrs="active", nginx="failed", cron="active")
    assert unit_states() == {"electrs": "active", "nginx": "failed"}


def test_window_replaces_the_unit_that_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(tmp_path, monkeypatch, "electrum", electrum_window="active")
    assert unit_states() == {"electrum": "window"}


def test_unit_that_failed_is_not_replaced_by_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(tmp_path, monkeypatch, "electrum", electrum="failed", electrum_window="active")
    assert unit_states() == {"electrum": "failed"}


def test_instance_without_units_has_no_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(tmp_path / "missing", monkeypatch)
    assert unit_states() == {}


def test_systemd_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(tmp_path, monkeypatch, "tor")
    done = subprocess.CompletedProcess([], 1, "", "Failed to connect to bus: No such file or directory\n")
    monkeypatch.setattr(program.subprocess, "run", lambda *_argv, **_options: done)
    with pytest.raises(SystemExit, match="^systemctl does not say the states of units: Failed to connect to bus: "):
        unit_states()
