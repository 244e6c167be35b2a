# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that a killed run has left at work, and those of the next run."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.exclusive import exclusive


def test_only_one_program_is_at_work(locks: Path) -> None:
    with exclusive("wallet"), (locks / "bcm-wallet.lock").open() as second:
        with pytest.raises(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with exclusive("other"):
            pass
    with (locks / "bcm-wallet.lock").open() as second:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
