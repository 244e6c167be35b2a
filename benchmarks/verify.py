# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive of 50 MB, its digest, its sums and three signatures, verified; and sha256sum and gpg with the same."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from pysequoia import SignatureMode, Tsk, sign

from ansible_collections.bcm.core.plugins.module_utils._artifact.artifacts import Artifacts, identity
from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Pin, Release, Signing
from ansible_collections.bcm.core.plugins.module_utils._artifact.download import Downloader

from .measure import Bench, Line, interleaved, timed

_SIZE = 50_000_000
_SIGNERS = 3
_HELD = 20
_NAME = "bench-1-x86_64-linux-gnu.tar.gz"


def lines(bench: Bench) -> list[Line]:
    folder = bench.folder / "verify"
    release = _released(folder / "bench/1", folder / "keys")
    artifacts = Artifacts(ContentStore(folder / "store"), Downloader(), lambda line: None, source=str(folder))
    artifacts.present([(release, folder / "keys")])
    with _home(folder / "keys") as home:
        check = (
            f"sha256sum --check --ignore-missing SHA256SUMS && gpg --homedir {home} --verify SHA256SUMS.asc SHA256SUMS"
        )
        by_hand = partial(subprocess.run, check, shell=True, cwd=folder / "bench/1", capture_output=True, check=True)
        variants = {
            "ours": lambda: timed(lambda: artifacts.verify(release, folder / "keys")),
            "by hand": lambda: timed(by_hand),
        }
        found = interleaved(variants, bench.repetitions)
    held = [(replace(release, version=str(number)), folder / "keys") for number in range(1, _HELD + 1)]
    for one, _keys in held:
        artifacts.store.write_record(identity(one), {})
    nothing = [timed(lambda: artifacts.present(held)) for _ in range(bench.repetitions)]
    work = f"An archive of {_SIZE // 10**6} MB verified: digest, sums, {_SIGNERS} signatures"
    return [
        Line(work, found["ours"], "`sha256sum` and `gpg --verify`", found["by hand"], 1.3),
        Line(f"{_HELD} artifacts that are in the store", median(nothing), at_most=0.5),
    ]


def _released(folder: Path, keys: Path) -> Release:
    """A release as upstream has it, and the keys of its signers."""
    for path in folder, keys:
        path.mkdir(parents=True)
    content = folder.parent / "content"
    content.write_text(os.urandom(_SIZE * 6 // 7).hex(), encoding="ascii")  # it packs about as well as binaries
    with tarfile.open(folder / _NAME, "w:gz", compresslevel=1) as archive:
        archive.add(content, "bench-1/bin/bench")
    with open(folder / _NAME, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    sums = f"{digest}  {_NAME}\n".encode()
    signers = {f"signer{number}": Tsk.generate(f"signer{number}") for number in range(_SIGNERS)}
    for name, key in signers.items():
        (keys / f"{name}.asc").write_text(str(key.extract_certificate()), encoding="ascii")
    (folder / "SHA256SUMS").write_bytes(sums)
    signatures = [sign(key.signer(), sums, mode=SignatureMode.DETACHED) for key in signers.values()]
    (folder / "SHA256SUMS.asc").write_bytes(b"".join(signatures))
    return Release(
        stack="bench",
        source="release",
        kind="archive",
        name="Bench",
        licence="MIT",
        version="1",
        files={"x86_64": Pin(f"https://example.org/{_NAME}", "sha256", digest)},
        signed=Signing(
            sums="https://example.org/SHA256SUMS",
            signatures=("https://example.org/SHA256SUMS.asc",),
            signers={name: key.extract_certificate().fingerprint.upper() for name, key in signers.items()},
            threshold=_SIGNERS,
        ),
    )


@contextmanager
def _home(keys: Path) -> Iterator[str]:
    """A home of gpg's, with the keys; short, since the path of a socket is below it."""
    with tempfile.TemporaryDirectory(prefix="bcm-gpg-", ignore_cleanup_errors=True) as home:
        command = ["gpg", "--homedir", home, "--quiet", "--batch", "--import", *map(str, keys.iterdir())]
        subprocess.run(command, capture_output=True, check=True)
        try:
            yield home
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
