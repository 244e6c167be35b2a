# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Esplora for tests, in the form of its image: a double of its server and a page, or real ones.

``BCM_ESPLORA_PROGRAMS`` names a folder with its server, ``electrs``, and its pages, ``bitcoin-regtest``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bcm_cli.setup import ROOT
from tests import images

#: the folder with the real ones, if they are there
REAL = os.environ.get("BCM_ESPLORA_PROGRAMS", "")
VERSION = "0.1.0"
_PAGE = b"<!doctype html><title>Bitcoin Regtest Explorer</title><p>A double has no pages.\n"


def pin(folder: Path) -> dict[str, Any]:
    """The item of ``bcm_artifacts`` that takes it from ``folder``, which gets it."""
    system: images.Layer = {"usr/bin/su": (b"", 0o4755)}
    return images.pin(folder / "esplora" / VERSION, VERSION, system, _real(Path(REAL)) if REAL else _double())


def _double() -> images.Layer:
    return {
        "srv/explorer/electrs_bitcoin/bin/electrs": ((ROOT / "tests/programs/esplora_double.py").read_bytes(), 0o755),
        "srv/explorer/static/bitcoin-regtest/index.html": (_PAGE, 0o644),
    }


def _real(programs: Path) -> images.Layer:
    pages = programs / "bitcoin-regtest"
    found = {
        f"srv/explorer/static/bitcoin-regtest/{path.relative_to(pages)}": (path.read_bytes(), 0o644)
        for path in sorted(pages.rglob("*"))
        if path.is_file()
    }
    return {**found, "srv/explorer/electrs_bitcoin/bin/electrs": ((programs / "electrs").read_bytes(), 0o755)}
