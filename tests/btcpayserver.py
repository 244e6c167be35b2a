# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BTCPay Server and NBXplorer for tests: doubles in the form of their images, whose runtime is in no registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from bcm_cli.setup import ROOT
from tests import images

_ROLES = ROOT / "collections/ansible_collections/bcm/core/roles"
_PROGRAMS = ROOT / "tests/programs"
#: in the place of the runtime
_RUNTIME = b'#!/bin/sh\nexec python3 "$@"\n'
# As that of a distribution: with a program that is root's whoever runs it.
_SYSTEM: images.Layer = {"usr/bin/su": (b"", 0o4755), "usr/share/dotnet/dotnet": (_RUNTIME, 0o755)}
#: stack -> what is in its image, and what that is here
DOUBLES = {
    "nbxplorer": {"NBXplorer.dll": "nbxplorer_double.py", "postgres_wire.py": "postgres_wire.py"},
    "btcpayserver": {
        "BTCPayServer.dll": "btcpayserver_double.py",
        "nbxplorer_double.py": "nbxplorer_double.py",
        "postgres_wire.py": "postgres_wire.py",
    },
}


def pinned(stack: str) -> str:
    """The version that a role pins, which its double says of itself."""
    declared = yaml.safe_load((_ROLES / stack / "meta/stack.yml").read_text())
    return str(declared["artifact"]["sources"]["image"]["version"])


def pins(folder: Path) -> dict[str, dict[str, Any]]:
    """The items of ``bcm_artifacts`` that take them from ``folder``, which gets them."""
    return {
        stack: images.pin(folder / stack / version, version, _SYSTEM, _program(files, version))
        for stack, files in DOUBLES.items()
        for version in [pinned(stack)]
    }


def _program(files: dict[str, str], version: str) -> images.Layer:
    programs = {f"app/{name}": ((_PROGRAMS / source).read_bytes(), 0o644) for name, source in files.items()}
    return {**programs, "app/version": (version.encode(), 0o644)}
