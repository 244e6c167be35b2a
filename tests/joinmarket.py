# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JoinMarket for tests: its release, or a double of its daemon in the form of that, which is in no registry.

``BCM_JOINMARKET_RELEASE`` names a folder with the archive, the manifest and the signature that stack.yml names.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from pysequoia import SignatureMode, Tsk, sign

from bcm_cli.setup import ROOT
from tests.node_programs import packed

_VERSION = "0.37.0"
_COMMIT = "0123456789" * 4
_EMPTY = (
    "jmcore/src/jmcore/data/a",
    *(f"jmwallet/src/jmwallet/{name}" for name in ("a", "backends/a", "cli/a", "wallet/a")),
    "jmwalletd/src/jmwalletd/routers/a",
    *(f"{name}/src/{name}/a" for name in ("maker", "taker", "tumbler")),
)
_DOUBLE = {
    "jmcore/src/jmcore/version.py": f'VERSION = "{_VERSION}"\n'.encode(),
    "jmwalletd/src/jmwalletd/cli.py": (ROOT / "tests/programs/joinmarket_double.py").read_bytes(),
    **dict.fromkeys(_EMPTY, b""),
}
#: the folder with the real one, if it is there
REAL = os.environ.get("BCM_JOINMARKET_RELEASE", "")


def pins(folder: Path, key: Tsk) -> dict[str, Any]:
    """What ``bcm_artifacts`` has to hold to take it from ``folder``, where it is put."""
    place = folder / "joinmarket" / _VERSION
    if REAL:
        shutil.copytree(REAL, place)
        return {}
    place.mkdir(parents=True)
    content = packed("joinmarket-ng", _DOUBLE)
    manifest = f"# JoinMarket NG Release Manifest\ncommit: {_COMMIT}\n".encode()
    signature = sign(key.signer(), manifest, mode=SignatureMode.DETACHED)
    for name, data in {f"{_COMMIT}.tar.gz": content, "manifest.txt": manifest, "manifest.sig": signature}.items():
        (place / name).write_bytes(data)
    url = "https://joinmarket.invalid"
    file = {"url": f"{url}/{{commit}}.tar.gz", "sha256": hashlib.sha256(content).hexdigest()}
    signed = {
        "commit": _COMMIT,
        "sums": f"{url}/manifest.txt",
        "signatures": f"{url}/manifest.sig",
        "threshold": 1,
        "signers": {"tester": key.extract_certificate().fingerprint.upper()},
    }
    return {"joinmarket": {"files": {platform.machine(): file}, "signed": signed}}
