# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Elements for tests: a release that somebody built, or the double that answers with recordings of it.

It is in no registry. ``BCM_ELEMENTS_ARCHIVE`` names an archive in the form of its release, of the version that was
recorded.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from bcm_cli.setup import ROOT
from tests.node_programs import packed

RECORDINGS = ROOT / "tests/recordings/liquid.json"
DOUBLE = ROOT / "tests/programs/liquid_double.py"
#: the real one, if it is there
ARCHIVE = os.environ.get("BCM_ELEMENTS_ARCHIVE", "")
#: the newest that can be built from public sources; it is older than the floor
VERSION = "23.3.4rc1"
_NAME = "elements.tar.gz" if ARCHIVE else "elements.tar"


def pin(folder: Path) -> dict[str, Any]:
    """The item of ``bcm_artifacts`` that takes it from ``folder``, which gets it."""
    content = Path(ARCHIVE).read_bytes() if ARCHIVE else _double()
    path = folder / "liquid" / VERSION / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    file = {"url": f"https://elements.invalid/{_NAME}", "sha256": hashlib.sha256(content).hexdigest()}
    return {"version": VERSION, "files": {platform.machine(): file}}


def _double() -> bytes:
    """The same bytes each time, so that its image is made once."""
    program = DOUBLE.read_text().replace('"RECORDED"', repr(json.dumps(json.loads(RECORDINGS.read_text()))))
    programs = dict.fromkeys(("bin/elementsd", "bin/elements-cli"), program.encode())
    return packed(f"elements-{VERSION}", programs, 0o755)
