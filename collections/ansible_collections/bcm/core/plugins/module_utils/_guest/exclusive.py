# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of which only one may be at work in an instance: ``bcm_guest.exclusive``."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

#: where only root writes
FOLDER = Path("/run")


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Wait until no other program is in this; a run that was killed may have left one at work. Raises OSError."""
    with (FOLDER / f"bcm-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
