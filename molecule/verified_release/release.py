#!/usr/bin/env python3
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Release trees as upstream shapes them: a good one, and one for each way in which a release can be tampered with.

release.py make FOLDER VERSION PACKAGE...   from the programs in FOLDER/bin, which need these packages of Debian;
                                            writes FOLDER/cases.json
release.py serve FOLDER                     in the background; writes FOLDER/server.json
release.py stop FOLDER
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

BUILDERS = ("anna", "ben", "cleo", "dan", "eve")
THRESHOLD = 3
Members = Iterable[tuple[tarfile.TarInfo, bytes]]


class Builders:
    """The people who build: five who are listed, and three whose word is worth nothing."""

    def __init__(self, home: str) -> None:
        self._home = home
        self.fingerprints = {name: self._make(name) for name in (*BUILDERS, "stranger")}
        # Listed people whose keys are past.
        self.fingerprints["old"] = self._make("old", "1d", at="20200101T000000!")
        self.fingerprints["robbed"] = self._make("robbed")
        revocation = Path(home, "openpgp-revocs.d", f"{self.fingerprints['robbed']}.rev").read_text(encoding="utf-8")
        self._revocation = revocation.replace(":-----BEGIN", "-----BEGIN").encode()

    def sign(self, data: bytes, *names: str) -> bytes:
        """Detached signatures one after the other, as upstream's SHA256SUMS.asc has them."""
        past = {"old": ["--faked-system-time=20200101T000000!"]}
        return b"".join(
            self._gpg(*past.get(name, []), "--armor", f"--local-user={name}", "--detach-sign", says=data)
            for name in names
        )

    def keys(self) -> dict[str, bytes]:
        """Fingerprint -> certificate."""
        self._gpg("--import", says=self._revocation)
        return {finger: self._gpg("--armor", "--export", finger) for finger in self.fingerprints.values()}

    def _make(self, name: str, lasts: str = "never", at: str | None = None) -> str:
        then = [f"--faked-system-time={at}"] if at else []
        self._gpg(*then, "--quick-generate-key", name, "ed25519", "sign", lasts)
        listed = self._gpg("--with-colons", "--list-keys", f"={name}").decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))

    def _gpg(self, *words: str, says: bytes = b"") -> bytes:
        command = ["gpg", f"--homedir={self._home}", "--batch", "--quiet", "--no-tty", "--pinentry-mode=loopback"]
        return subprocess.run(
            [*command, "--passphrase=", *words], input=says, stdout=subprocess.PIPE, check=True
        ).stdout


def member(name: str, content: bytes = b"", mode: int = 0o755, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), mode
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def packed(members: Members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Tree:
    """The trees below one folder, each a source of its own, and what a run is told of it."""

    def __init__(self, folder: Path, version: str, packages: Iterable[str], builders: Builders) -> None:
        self._folder, self._version, self._packages, self._builders = folder, version, list(packages), builders
        self.cases: list[dict[str, Any]] = []

    def add(
        self,
        case: str,
        complaint: str,
        *,
        archive: bytes | None = None,
        served: Callable[[bytes], bytes] = bytes,
        listed: Callable[[str], str] = str,
        signed: Callable[[bytes], bytes] | None = None,
        signers: Iterable[str] = BUILDERS,
        version: str | None = None,
    ) -> None:
        version = version or self._version
        top = f"bitcoin-{version}"
        # Each is another archive, or its image would be there already and nothing would be fetched.
        archive = archive or packed([member(f"{top}/bin/bitcoind", case.encode()), member(f"{top}/bin/bitcoin-cli")])
        name = f"{top}-x86_64-linux-gnu.tar.gz"
        digest = hashlib.sha256(archive).hexdigest()
        sums = listed(f"{digest}  {name}\n").encode()
        place = self._folder / "trees" / case / "bitcoind" / version
        place.mkdir(parents=True)
        (place / name).write_bytes(served(archive))
        (place / "SHA256SUMS").write_bytes(sums)
        sign = signed or (lambda data: self._builders.sign(data, *BUILDERS[:THRESHOLD]))
        (place / "SHA256SUMS.asc").write_bytes(sign(sums))
        upstream = "https://builds.example.org/{version}"
        file = {"url": f"{upstream}/bitcoin-{{version}}-x86_64-linux-gnu.tar.gz", "sha256": digest}
        signing = {
            "sums": f"{upstream}/SHA256SUMS",
            "signatures": f"{upstream}/SHA256SUMS.asc",
            "threshold": THRESHOLD,
            "signers": {name: self._builders.fingerprints[name] for name in signers},
        }
        pins: Mapping[str, Any] = {"version": version, "files": {"x86_64": file}, "signed": signing}
        told = {
            "bcm_artifacts": {"bitcoind": pins},
            "bcm_artifact_keys": [str(self._folder / "keys")],
            "bitcoind_source": "release",
            # The libraries that these programs, unlike upstream's, are linked with.
            "bitcoind_packages": self._packages,
        }
        self.cases.append({"name": case, "complaint": complaint, "version": version, "variables": told})


def make(folder: Path, version: str, *packages: str) -> None:
    top = f"bitcoin-{version}"
    # short, for the agent's socket is in it
    with tempfile.TemporaryDirectory(prefix="bcm-", ignore_cleanup_errors=True) as home:
        builders = Builders(home)
        tree = Tree(folder, version, packages, builders)
        programs = [member(f"{top}/bin/{path.name}", path.read_bytes()) for path in sorted((folder / "bin").iterdir())]
        tree.add("good", "", archive=packed([*programs, member(f"{top}/README.md", b"A release.\n", 0o644)]))

        tree.add("wrong-digest", "it is not what was released", served=lambda data: data + b"\0")
        tree.add("truncated", "it is not what was released", served=lambda data: data[: len(data) // 2])
        for case, names in (
            ("too-few", ("anna", "ben")),
            ("unknown", ("anna", "ben", "stranger")),
            ("twice", ("anna", "ben", "ben")),
        ):
            tree.add(case, "2 of 3 needed", signed=functools.partial(lambda n, data: builders.sign(data, *n), names))
        for case, complaint in (("old", "key expired on"), ("robbed", "revoked key")):
            by = functools.partial(lambda n, data: builders.sign(data, "anna", "ben", n), case)
            tree.add(case, complaint, signed=by, signers=("anna", "ben", case))
        tree.add("not-listed", "does not list", listed=lambda line: line.replace("x86_64", "aarch64"))
        tree.add("other-version", "bad signature", signed=lambda sums: builders.sign(b"0\n" + sums, *BUILDERS))
        tree.add("downgrade", "below the floor", version="22.0")

        for case, bad in (
            ("absolute", member("/etc/cron.d/x")),
            ("upwards", member(f"{top}/../../etc/x")),
            ("link", member(f"{top}/x", type=tarfile.SYMTYPE, linkname="../../etc/passwd")),
            ("hard-link", member(f"{top}/x", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
            ("device", member(f"{top}/x", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
            ("set-id", member(f"{top}/bin/bitcoin-cli", mode=0o4755)),
        ):
            members = [member(f"{top}/bin/bitcoind", case.encode()), bad]
            tree.add(case, "refused, no release should hold such a thing", archive=packed(members))

        (folder / "keys").mkdir()
        for fingerprint, certificate in builders.keys().items():
            (folder / "keys" / f"{fingerprint}.asc").write_bytes(certificate)
        subprocess.run(["gpgconf", f"--homedir={home}", "--kill", "all"], check=True)
    (folder / "cases.json").write_text(json.dumps(tree.cases, indent=1), encoding="utf-8")


def serve(folder: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder / "trees"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    child = os.fork()
    if child:
        told = {"address": f"http://127.0.0.1:{server.server_port}", "pid": child}
        (folder / "server.json").write_text(json.dumps(told), encoding="utf-8")
        return
    os.setsid()
    with open(folder / "server.log", "ab", buffering=0) as log, open(os.devnull, "rb") as nothing:
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source.fileno(), target)
    server.serve_forever()


def stop(folder: Path) -> None:
    os.kill(json.loads((folder / "server.json").read_text(encoding="utf-8"))["pid"], signal.SIGTERM)


if __name__ == "__main__":
    {"make": make, "serve": serve, "stop": stop}[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
