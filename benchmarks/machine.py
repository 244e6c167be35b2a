# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A LXD daemon of the benchmarks' own: nothing of the user's is touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bcm_cli import lxd_setup
from bcm_cli.datacenter import DataCenter
from bcm_cli.setup import sudo

# short: the path of a unix socket has at most 107 bytes
DIRECTORY = Path("/tmp/bcm-bench-lxd")


@contextmanager
def daemon(given: Path | None) -> Iterator[Path]:
    """The socket of the daemon that runs in ``given``, or of one that lives as long as the benchmarks."""
    directory = given or DIRECTORY
    os.environ["LXD_DIR"] = str(directory)
    os.environ.pop("BCM_ENDPOINT", None)
    if given is not None:
        yield given / "unix.socket"
        return
    _end()
    try:
        lxd_setup.ready(DataCenter("local"), yes=True)
        yield directory / "unix.socket"
    finally:
        _end()


def _end() -> None:
    """End the daemon, also one that a killed run left, and take away everything it made."""
    if (DIRECTORY / "unix.socket").exists():
        subprocess.run(["lxd", "shutdown", "--timeout=60"], capture_output=True, check=False)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{DIRECTORY}/")), reverse=True):
        subprocess.run([*sudo(), "umount", "--lazy", mount], check=True)
    if DIRECTORY.exists():
        subprocess.run([*sudo(), "rm", "-rf", str(DIRECTORY)], check=True)
