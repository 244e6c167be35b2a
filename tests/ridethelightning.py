# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ride The Lightning for tests: a double in the form of its release, which is in no registry, or that release.

``BCM_RIDETHELIGHTNING_ARCHIVE`` names the archive of the version that was recorded.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

from pysequoia import SignatureMode, Tsk, sign

from bcm_cli.setup import ROOT
from tests.node_programs import packed

RECORDINGS = ROOT / "tests/recordings/ridethelightning.json"
_DOUBLE = ROOT / "tests/programs/ridethelightning_double.js"
#: the real one, if it is there
ARCHIVE = os.environ.get("BCM_RIDETHELIGHTNING_ARCHIVE", "")
VERSION = "0.15.11"
_NAME = "ridethelightning.tar.gz" if ARCHIVE else "ridethelightning.tar"


def pin(folder: Path, key: Tsk) -> dict[str, Any]:
    """The item of ``bcm_artifacts`` that takes it from ``folder``, which gets it with a signature of that key."""
    path = folder / "ridethelightning" / VERSION / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(Path(ARCHIVE).read_bytes() if ARCHIVE else _double())
    path.with_name(f"{_NAME}.asc").write_bytes(sign(key.signer(), path.read_bytes(), mode=SignatureMode.DETACHED))
    url = f"https://ridethelightning.invalid/{_NAME}"
    files = {platform.machine(): {"url": url, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
    signers = {"tester": key.extract_certificate().fingerprint.upper()}
    return {
        "version": VERSION,
        "files": files,
        "signed": {"signatures": f"{url}.asc", "threshold": 1, "signers": signers},
    }


def _double() -> bytes:
    """The same bytes each time, so that its image is made once."""
    files = {
        "rtl.js": _DOUBLE.read_bytes(),
        "backend/recordings/answers.json": RECORDINGS.read_bytes(),
        **dict.fromkeys(("backend/a/b/c", "frontend/index.html", "frontend/a/b/c", "frontend/d/e/f/g"), b""),
    }
    return packed("RTL", files)
