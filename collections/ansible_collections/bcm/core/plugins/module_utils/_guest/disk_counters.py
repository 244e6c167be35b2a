# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in an instance: tells whether the host's kernel enforces limits of disks there. Standard library only."""

from __future__ import annotations

import json
import sys
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_FILESYSTEMS = Path("/sys/fs/btrfs")


def find_uncounted() -> str | None:
    """Return the device below the root of the instance if the kernel has lost count of what is on it; None if not.

    btrfs then enforces no limit, until it has counted again (btrfs-quota(8)). LXD reports nothing of it; the host's
    kernel does, in a file that an instance can read, too (since Linux 6.0).
    """
    for line in _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        own, _hyphen, of_filesystem = line.partition(" - ")
        kind, device = of_filesystem.split(" ")[:2]
        if own.split(" ")[4] == "/" and kind == "btrfs":
            flags = [path.parents[1] / "qgroups/inconsistent"
                     for path in _FILESYSTEMS.glob(f"*/devices/{Path(device).name}")]  # fmt: skip
            return device if any(flag.exists() and flag.read_text().strip() == "1" for flag in flags) else None
    return None


if __name__ == "__main__":
    json.dump({"uncounted": find_uncounted()}, sys.stdout)
