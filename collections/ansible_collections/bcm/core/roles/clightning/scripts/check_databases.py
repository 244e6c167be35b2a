# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check, before lightningd starts, that it finds its own wallet and the newest database, and has room to write to it.

It would make a wallet or a database if there were none, and overwrite the replica with an older database.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import sys
from pathlib import Path

_VERSION = "SELECT intval FROM vars WHERE name = 'data_version'"
#: Bytes that a volume has to have free; lightningd ends if it cannot write a change.
_ROOM = 1024 * 1024


def is_full(directory: Path) -> bool:
    """Whether the volume of a directory has no room. What is free there by statvfs need not be free by its quota."""
    path = directory / "room"
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, _ROOM)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return True
    finally:
        path.unlink(missing_ok=True)
    return False


def data_version(path: Path) -> int:
    """The number of changes of a database, which nobody may have open. Raises sqlite3.Error."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
        found = database.execute(_VERSION).fetchone()
    return int(found[0]) if found else 0


def fault(directory: Path, replica: Path) -> str:
    """What keeps lightningd from starting, if anything."""
    database, permission = directory / "lightningd.sqlite3", directory / "new-database"
    if not (directory / "hsm_secret").exists():
        return f"{directory}/hsm_secret is not there: the volume was lost, or its wallet was not made yet"
    for volume, setting in ((directory, "clightning_data_size"), (replica.parent, "clightning_backup_size")):
        if is_full(volume):
            return f"{volume} is full: make its volume larger, with {setting}, or remove what does not belong there"
    if not database.exists():
        if permission.exists() and not replica.exists():
            return ""
        return (
            f"{database} is not there, but this node has had one: the volume was lost; "
            "`bcm lightning restore clightning` makes it again"
        )
    if replica.exists() and (own := data_version(database)) < (other := data_version(replica)):
        return (
            f"{database} is older than its replica {replica} (change {own}, not {other}): an old copy of the volume "
            "was put back, which would lose the channels; remove it, and type `bcm lightning restore clightning`"
        )
    permission.unlink(missing_ok=True)
    return ""


def main() -> None:
    directory, replica = (Path(word) for word in sys.argv[1:])
    try:
        found = fault(directory, replica)
    except sqlite3.Error as error:
        found = f"a database cannot be read: {error}"
    if found:
        raise SystemExit(f"clightning: {found}")


if __name__ == "__main__":
    main()
