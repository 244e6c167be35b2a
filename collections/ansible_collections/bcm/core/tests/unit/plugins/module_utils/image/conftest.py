# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine whose apt has the options that a test gives it, none without."""

from __future__ import annotations

from pathlib import Path

import pytest


class Machine:
    """The program apt-config, which is asked for the options."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set("")

    def set(self, dump: str) -> None:
        """What `apt-config dump` says."""
        self._path.write_text(f"#!/bin/sh\ncat <<'END'\n{dump}\nEND\n")
        self._path.chmod(0o755)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    folder = tmp_path / "machine"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    return Machine(folder / "apt-config")
