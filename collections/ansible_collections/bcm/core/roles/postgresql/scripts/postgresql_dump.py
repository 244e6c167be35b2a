# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dump each database into a new folder, which has its name once it is complete; the oldest folders are deleted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

_PARTIAL = ".partial"
_DATABASES = (
    "SELECT datname FROM pg_database WHERE datallowconn AND datname NOT IN ('postgres', 'template1', 'bcm_probe')"
)
_LOGIN = ("--host=/run/postgresql", "--username=postgres")


def run(*argv: str) -> str:
    """Output of a command. Raises SystemExit with what it complained about."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{argv[0]} failed: {done.stderr.strip()}")
    return done.stdout


def dump(folder: Path, most: int) -> Path | None:
    """Dump all databases, and return the folder; None if there are none. Raises SystemExit."""
    for left in folder.glob(f"*{_PARTIAL}"):
        shutil.rmtree(left)  # of a program that was killed
    databases = run("psql", *_LOGIN, "--no-psqlrc", "--tuples-only", "--no-align", f"--command={_DATABASES}").split()
    if not databases:
        return None
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    partial = folder / f"{name}{_PARTIAL}"
    partial.mkdir(mode=0o700)
    try:
        for database in databases:
            run("pg_dump", *_LOGIN, "--format=custom", f"--file={partial / database}.dump", f"--dbname={database}")
    except BaseException:
        shutil.rmtree(partial)
        raise
    os.rename(partial, folder / name)
    made = sorted(path for path in folder.iterdir() if path.name.endswith("Z"))
    for path in made[:-most]:
        shutil.rmtree(path)
    return folder / name


if __name__ == "__main__":
    made_in = dump(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stderr.write(f"dumped into {made_in}\n" if made_in else "there is no database to dump\n")
