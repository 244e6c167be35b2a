# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy the database of invoices before it is opened, if it is whole; the copies of the last starts are kept.

A start follows an update, which may change the database.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

_KEPT = 3


def copy(database: Path) -> None:
    """Copy it to ``.1``, and move former copies on. Raises SystemExit if it is damaged."""
    if not database.exists():
        return
    fresh = Path(f"{database}.new")
    fresh.unlink(missing_ok=True)  # of a program that was killed
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(fresh)) as target:
            source.backup(target)
            (sound,) = target.execute("PRAGMA integrity_check").fetchone()
    except sqlite3.DatabaseError as error:
        sound = str(error)
    if sound != "ok":
        raise SystemExit(f"{database} is damaged: {sound}; put {database}.1, a copy of it, in its place")
    for number in range(_KEPT - 1, 0, -1):
        former = Path(f"{database}.{number}")
        if former.exists():
            os.replace(former, f"{database}.{number + 1}")
    os.replace(fresh, f"{database}.1")


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
