# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the files of the databases if there are none, before the server starts. Files of another major version stay."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

#: Until credentials.py knows the consumers: the superuser, in this instance alone.
NOBODY = "local all postgres peer map=superuser\n"


def prepare(programs: Path, directory: Path) -> None:
    """Make the files. Raises SystemExit if there are those of another major version."""
    access = directory.parent / "pg_hba.conf"
    if not access.exists():
        access.write_text(NOBODY)
    if (directory / "PG_VERSION").exists():
        return
    if others := sorted(path.parent.name for path in directory.parent.glob("*/PG_VERSION")):
        raise SystemExit(
            f"The volume has databases of PostgreSQL {', '.join(others)}, which {directory.name} does not read, and is "
            f"left as it is: go back to PostgreSQL {others[-1]}, or move them as the README of the role says"
        )
    partial = directory.with_name(f"{directory.name}.partial")
    if partial.exists():
        shutil.rmtree(partial)  # of a program that was killed
    # Its own collation is the same for all versions of Debian's C library: no index has to be made again for those.
    command = [
        programs / "initdb",
        f"--pgdata={partial}",
        "--username=postgres",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--locale-provider=builtin",
        "--builtin-locale=C.UTF-8",
        "--data-checksums",
        "--auth-local=peer",
        "--auth-host=reject",
        "--no-instructions",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    os.rename(partial, directory)


if __name__ == "__main__":
    prepare(*map(Path, sys.argv[1:]))
