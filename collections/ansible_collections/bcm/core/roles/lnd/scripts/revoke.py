# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revoke the macaroons of consumers, by their names: `bcm secret rotate`. The next run makes others."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bcm_guest.revocation import revoke_credentials
from bcm_guest.volume_files import list_files, remove_file

DIRECTORY = Path("/var/lib/lnd/consumers")


def revoke(consumers: list[str]) -> list[str]:
    """Revoke what these consumers have, and return those of them that had anything. Raises OSError."""
    found = []
    for path in list_files(DIRECTORY, ".json"):
        consumer, _dot, number = path.stem.rpartition(".")
        if consumer in consumers:
            # lnd first: a macaroon without its file is never revoked.
            done = subprocess.run(
                ["lncli", "deletemacaroonid", number], capture_output=True, text=True, timeout=60, check=False
            )
            if done.returncode:
                raise OSError(f"lncli deletemacaroonid {number}: {done.stderr.strip()}")
            remove_file(path)
            found.append(consumer)
    return found


def main() -> None:
    revoke_credentials("lnd", revoke)


if __name__ == "__main__":
    main()
