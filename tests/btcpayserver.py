# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""BTCPay Server and NBXplorer for tests: doubles in the form of their images, whose runtime is in no registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

from tests.support import ROOT

_PROGRAMS = ROOT / "tests/programs"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
#: in the place of the runtime
_RUNTIME = b'#!/bin/sh\nexec python3 "$@"\n'
#: stack -> version, and what it is called in the image
DOUBLES = {
    "nbxplorer": ("2.6.7", {"NBXplorer.dll": "nbxplorer_double.py", "postgres_wire.py": "postgres_wire.py"}),
    "btcpayserver": (
        "2.4.1",
        {
            "BTCPayServer.dll": "btcpayserver_double.py",
            "nbxplorer_double.py": "nbxplorer_double.py",
            "postgres_wire.py": "postgres_wire.py",
        },
    ),
}


def pins(folder: Path) -> dict[str, dict[str, Any]]:
    """The items of ``bcm_artifacts`` that take them from ``folder``, which gets them."""
    return {stack: _pin(folder / stack / version, version, files) for stack, (version, files) in DOUBLES.items()}


def _pin(folder: Path, version: str, files: dict[str, str]) -> dict[str, Any]:
    """The same bytes each time, so that its image is made once."""
    machine = platform.machine()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[machine]
    program = {f"app/{name}": ((_PROGRAMS / source).read_bytes(), 0o644) for name, source in files.items()}
    # As that of a distribution: with a program that is root's whoever runs it.
    system = {"usr/bin/su": (b"", 0o4755), "usr/share/dotnet/dotnet": (_RUNTIME, 0o755)}
    layers = [{"mediaType": _LAYER, "digest": _keep(folder, _packed(part))} for part in (system, program)]
    config = _keep(folder, json.dumps({"architecture": architecture, "os": "linux"}).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config},
        "layers": layers,
    }
    image = {
        "mediaType": _MANIFEST,
        "digest": _keep(folder, json.dumps(manifest).encode()),
        "platform": {"os": "linux", "architecture": architecture},
    }
    index = _keep(folder, json.dumps({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [image]}).encode())
    url = f"https://registry.invalid/v2/double/double/manifests/{index}"
    return {"version": version, "files": {machine: {"url": url, "sha256": index.removeprefix("sha256:")}}}


def _keep(folder: Path, data: bytes) -> str:
    """Put a part of an image where a mirror has it."""
    digest = hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / digest).write_bytes(data)
    return f"sha256:{digest}"


def _packed(files: dict[str, tuple[bytes, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, (content, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)
