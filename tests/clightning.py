# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Core Lightning for tests: a release that somebody built, or the double that answers with recordings of it.

It is in no registry. ``BCM_CLIGHTNING_ARCHIVE`` names an archive in the form of its release for Ubuntu, of the version
that was recorded.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import tarfile
from pathlib import Path
from typing import Any

from pysequoia import SignatureMode, Tsk, sign

from bcm_cli.setup import ROOT
from tests import btcpayserver, esplora, joinmarket, liquid, node_programs, ridethelightning

RECORDINGS = ROOT / "tests/recordings/clightning.json"
_DOUBLE = ROOT / "tests/programs/clightning_double.py"
#: the real one, if it is there
ARCHIVE = os.environ.get("BCM_CLIGHTNING_ARCHIVE", "")
VERSION = "26.06.6"
_NAME = "clightning.tar"


def settings(folder: Path) -> dict[str, Any]:
    """Variables of an inventory that take Core Lightning from ``folder``, which gets it with a signature."""
    path = folder / "clightning" / VERSION / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    if ARCHIVE:
        shutil.copyfile(ARCHIVE, path)
    else:
        path.write_bytes(_double())
    key = _signer()
    certificate = key.extract_certificate()
    signature = sign(key.signer(), path.read_bytes(), mode=SignatureMode.DETACHED)
    path.with_name(f"{_NAME}.asc").write_bytes(signature)
    (folder / "keys").mkdir()
    (folder / "keys/tester.asc").write_text(str(certificate))
    url = f"https://clightning.invalid/{_NAME}"
    files = {platform.machine(): {"url": url, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
    signers = {"tester": certificate.fingerprint.upper()}
    signed = {"signatures": f"{url}.asc", "threshold": 1, "signers": signers}
    return {
        "bcm_artifact_source": str(folder),
        "bcm_artifact_keys": [str(folder / "keys")],
        "bcm_artifacts": {"clightning": {"version": VERSION, "files": files, "signed": signed}},
        # The newest that can be had is older than the floor.
        "allow_below_floor": ["clightning"],
    }


def has_plugin(name: str) -> bool:
    """Whether the archive has a plugin."""
    with tarfile.open(ARCHIVE) as tar:
        return any(member.name.endswith(f"/plugins/{name}") for member in tar)


def _signer() -> Tsk:
    """The same key on each machine: who signed a release is a part of the name of its image."""
    kept = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bcm/test-signer.pgp"
    try:
        return Tsk.from_bytes(kept.read_bytes())
    except FileNotFoundError:
        key = Tsk.generate("Tests of Bitcoin Cache Machine")
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = kept.with_suffix(".new")
        fresh.write_bytes(bytes(key))
        fresh.replace(kept)
        return key


def _double() -> bytes:
    """The double in the form of the release; the same bytes each time, so that its image is made once."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("lightningd", "lightning-cli", "lightning-hsmtool"):
            _add(tar, f"bin/{name}", _DOUBLE.read_bytes(), 0o755)
        _add(tar, "libexec/c-lightning/recordings.json", RECORDINGS.read_bytes(), 0o644)
        _add(tar, "libexec/c-lightning/plugins/README", b"A double has no plugins.\n", 0o644)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = tarfile.TarInfo(f"usr/{name}")
    info.size, info.mode = len(content), mode
    tar.addfile(info, io.BytesIO(content))


def pages(folder: Path) -> dict[str, Any]:
    """Items of ``bcm_artifacts`` that take the web applications of a node from ``folder``."""
    return {"ridethelightning": ridethelightning.pin(folder, _signer()), **node_programs.pins(folder)}


def environment(folder: Path) -> dict[str, str]:
    """The same for the inventory of the collection's scenarios, which have programs of the web, too."""
    found = settings(folder)
    found["bcm_artifacts"] |= btcpayserver.pins(folder)
    found["bcm_artifacts"] |= {"esplora": esplora.pin(folder), "liquid": liquid.pin(folder)}
    found["allow_below_floor"] += ["liquid"]
    found["bcm_artifacts"] |= pages(folder)
    found["bcm_artifacts"] |= joinmarket.pins(folder, _signer())
    return {"BCM_TEST_SETTINGS": json.dumps(found)}
