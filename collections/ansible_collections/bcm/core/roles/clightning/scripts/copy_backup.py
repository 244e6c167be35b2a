# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copy a file to a second volume whenever it is replaced, so that the copy is always a whole one."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

_INTERVAL = 0.5  # seconds


def copy(source: Path, target: Path) -> None:
    content = source.read_bytes()
    if target.exists() and target.read_bytes() == content:
        return
    fresh = target.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)


def version(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_ctime_ns


def main() -> None:
    source, target = (Path(word) for word in sys.argv[1:])
    copied = None
    while True:
        found = version(source)
        if found is not None and found != copied:
            copy(source, target)
            copied = found
        time.sleep(_INTERVAL)


if __name__ == "__main__":
    main()
