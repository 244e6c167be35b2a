# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which copies a run fetches."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.filter.missing_copies import missing_copies


@pytest.mark.parametrize(("there", "is_missing"), [(None, True), (b"", True), (b"part of i", True), (b"a copy", False)])
def test_copy_is_missing_unless_the_folder_has_all_of_it(tmp_path: Path, there: bytes | None, is_missing: bool) -> None:
    if there is not None:
        (tmp_path / "c1").write_bytes(there)
    wanted = {"c1": hashlib.sha256(b"a copy").hexdigest()}
    assert missing_copies(wanted, [str(tmp_path)]) == [{"name": "c1", "folder": str(tmp_path)}] * is_missing


def test_folder_is_below_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c1").write_bytes(b"a copy")
    wanted = {"c1": hashlib.sha256(b"a copy").hexdigest()}
    assert missing_copies(wanted, ["~", "~/other"]) == [{"name": "c1", "folder": "~/other"}]
