# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks compare with: two collections and mitogen, from the wheels pinned in requirements.txt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from bcm_cli.setup import ROOT, step

_REQUIREMENTS = Path(__file__).parent / "requirements.txt"
_COMMUNITY = "ansible_collections/community"
_WANTED = (f"{_COMMUNITY}/crypto/", f"{_COMMUNITY}/general/", "mitogen/", "ansible_mitogen/")


def folder() -> Path:
    """A folder that is a collection path and a Python path at once; filled when the pins or the names are new."""
    pinned = _REQUIREMENTS.read_bytes() + repr(_WANTED).encode()
    digest = hashlib.sha256(pinned).hexdigest()[:12]
    target = ROOT / ".cache" / "benchmarks" / f"peers-{digest}"
    if not target.exists():
        step("Fetch what to compare with: community.general, community.crypto and mitogen")
        draft = target.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        wheels = draft / "wheels"
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*download, "--require-hashes", "-r", str(_REQUIREMENTS), "-d", str(wheels)], check=True)
        for wheel in wheels.iterdir():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(draft, [name for name in archive.namelist() if name.startswith(_WANTED)])
        shutil.rmtree(wheels)
        draft.rename(target)
    return target
