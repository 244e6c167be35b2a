# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A signed archive and an image, in the folder FOLDER/source as a mirror has them; how they are declared, as JSON."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from pysequoia import SignatureMode, Tsk, sign

PLACE = Path(sys.argv[1])
UPSTREAM = "https://example.org"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def packed(**members: str | None) -> bytes:
    """A tar: files are executable; a name with "to" is a link to what follows."""
    tarball = io.BytesIO()
    with tarfile.open(fileobj=tarball, mode="w") as tar:
        for name, content in members.items():
            data = (content or "").encode()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            if content is None:
                member.type, member.size = tarfile.DIRTYPE, 0
            elif content.startswith("-> "):
                member.type, member.linkname, member.size = tarfile.SYMTYPE, content.removeprefix("-> "), 0
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(tarball.getvalue(), mtime=0)


def kept(version: str, data: bytes, name: str = "") -> str:
    """Put a file, called by its digest unless it has a name, where a mirror has it; its digest."""
    digest = hashlib.sha256(data).hexdigest()
    folder = PLACE / "source/hello" / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (name or digest)).write_bytes(data)
    return digest


def declared(kind: str, version: str, url: str, digest: str, signed: dict[str, Any] | None = None) -> dict[str, Any]:
    files = {"x86_64": {"url": url, "algorithm": "sha256", "digest": digest}}
    names = {"stack": "hello", "source": kind, "kind": kind, "name": "hello", "licence": "MIT", "version": version}
    return {**names, "files": files, "signed": signed, "repository": None, "sha256": None, "lock": None}


def archive() -> dict[str, Any]:
    key = Tsk.generate("somebody")
    certificate = key.extract_certificate()
    fingerprint = certificate.fingerprint.upper()
    keys = PLACE / "keys"
    keys.mkdir(parents=True)
    (keys / "somebody.asc").write_text(str(certificate))
    name = "hello-1.0.tar.gz"
    digest = kept("1.0", packed(**{"hello-1.0/bin/hello": "#!/bin/sh\necho hello\n", "hello-1.0/README": "no"}), name)
    sums = f"{digest}  {name}\n".encode()
    kept("1.0", sums, "SHA256SUMS")
    kept("1.0", sign(key.signer(), sums, mode=SignatureMode.DETACHED), "SHA256SUMS.asc")
    signed = {
        "sums": f"{UPSTREAM}/SHA256SUMS",
        "signatures": [f"{UPSTREAM}/SHA256SUMS.asc"],
        "signers": {"somebody": fingerprint},
        "threshold": 1,
        "wkd": {},
    }
    return declared("archive", "1.0", f"{UPSTREAM}/{name}", digest, signed)


def image(version: str, *layers: bytes) -> dict[str, Any]:
    config = kept(version, json.dumps({"architecture": "amd64", "os": "linux"}).encode())
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": f"sha256:{config}"},
        "layers": [{"mediaType": LAYER, "digest": f"sha256:{kept(version, layer)}"} for layer in layers],
    }
    digest = kept(version, json.dumps(manifest).encode())
    return declared("oci", version, f"{UPSTREAM}/v2/hello/hello/manifests/sha256:{digest}", digest)


below = packed(**{"bin": "-> usr/bin", "usr/bin/hello": "#!/bin/sh\necho hi\n", "etc/old": "x", "srv/one": "1"})
above = packed(**{"bin/hello": "#!/bin/sh\necho hello\n", "etc/.wh.old": "", "srv": None, "srv/.wh..wh..opq": ""})
told = {
    "archive": archive(),
    "oci": image("2.0", below, above),
    "escaping": image("2.1", below, packed(**{"out": "-> /etc", "out/passwd": "x"})),
}
print(json.dumps(told))
