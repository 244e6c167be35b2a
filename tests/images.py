# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of a registry for tests: what a mirror has of one, from the files in its layers."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
#: files of a layer: their content and mode, by path
Layer = dict[str, tuple[bytes, int]]


def pin(folder: Path, version: str, *layers: Layer) -> dict[str, Any]:
    """The item of ``bcm_artifacts`` that takes an image from ``folder``, which gets it.

    The same bytes each time, so that the image of the stack is made once.
    """
    machine = platform.machine()
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[machine]
    parts = [{"mediaType": _LAYER, "digest": _keep(folder, _packed(layer))} for layer in layers]
    config = _keep(folder, json.dumps({"architecture": architecture, "os": "linux"}).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config},
        "layers": parts,
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
