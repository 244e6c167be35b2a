# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lightning Charge and Spark for tests: their releases, or doubles in the form of these, which are in no registry.

``BCM_NODE_PROGRAMS`` names a folder with the releases.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tarfile
from pathlib import Path
from typing import Any

from bcm_cli.setup import ROOT

_PROGRAMS = ROOT / "tests/programs"
_CHARGE = {
    "knexfile.js": b"module.exports = {client: 'sqlite3', connection: process.env.DB_PATH, useNullAsDefault: true};\n",
    "src/app.js": (_PROGRAMS / "lightning_charge_double.js").read_bytes(),
    **dict.fromkeys(
        ("src/lib/auth.js", "migrations/a.js", "views/a.pug", "www/bootstrap.min.css", "www/checkout.js"), b""
    ),
    "www/checkout.styl": b"body\n  margin 0\n",
}
_SPARK = {
    "dist/cli.js": (_PROGRAMS / "spark_double.js").read_bytes(),
    **dict.fromkeys(("dist/www/a", "dist/www/a1/b", "dist/www/a1/c/d", "dist/www/a1/c/e/f"), b""),
}


#: the folder with the real ones, if they are there
REAL = os.environ.get("BCM_NODE_PROGRAMS", "")


def pins(folder: Path) -> dict[str, Any]:
    """What ``bcm_artifacts`` has to hold to take them from ``folder``, where they are put."""
    return {
        "lightning-charge": _pin(folder / "lightning-charge/0.4.26/lightning-charge-0.4.26.tar.gz", _CHARGE),
        "spark": _pin(folder / "spark/0.3.1/spark-wallet-0.3.1-npm.tgz", _SPARK),
    }


def _pin(path: Path, files: dict[str, bytes]) -> dict[str, Any]:
    content = (Path(REAL) / path.name).read_bytes() if REAL else packed("package", files)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    file = {"url": f"https://release.invalid/{path.name}", "sha256": hashlib.sha256(content).hexdigest()}
    return {"files": {platform.machine(): file}}


def packed(folder: str, files: dict[str, bytes], mode: int = 0o644) -> bytes:
    """An archive with files in a folder: the same bytes each time, so that the image is made once."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
