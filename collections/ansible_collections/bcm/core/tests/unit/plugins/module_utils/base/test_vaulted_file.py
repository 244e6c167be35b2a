# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.locks import hold_lock, share_lock
from ansible_collections.bcm.core.plugins.module_utils._base.vaulted_file import VaultedFile


def test_lock_leaves_the_content_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "requirements.txt"
    path.write_text("content")
    with hold_lock(path):
        pass
    with share_lock(path):
        pass
    assert path.read_text() == "content"


def test_shared_lock_is_alone_once_the_others_are_gone(tmp_path: Path) -> None:
    alone, done = threading.Event(), threading.Event()

    def first() -> None:
        with share_lock(tmp_path / "lock") as wait_for_others:
            shared.wait()
            wait_for_others()
            alone.set()
        done.set()

    shared = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    with share_lock(tmp_path / "lock"):
        shared.set()
        assert not alone.wait(0.3)
    thread.join(120)
    assert alone.is_set() and done.is_set()


def test_other_runs_wait_no_longer_than_the_patience(tmp_path: Path) -> None:
    path = tmp_path / "regtest.json"
    fault = r"^Another run has been at work on .*/regtest.json for 0 s: wait until it has ended, and run again"
    second = VaultedFile(path, "Secrets", patience=0.1)
    with VaultedFile(path, "Secrets").locked(), pytest.raises(BcmError, match=fault), second.locked():
        pass
    with second.locked():
        pass
