# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that list digests, as sha256sum and sha512sum write them, and manifests that name a commit of git."""

from __future__ import annotations

import re

from .._base.errors import BcmError
from .declaration import Pin

_DIGEST = r"[0-9a-fA-F]{64}|[0-9a-fA-F]{128}"
_GNU = re.compile(rf"(?P<escaped>\\?)(?P<digest>{_DIGEST}) [ *](?P<name>.+)")
_BSD = re.compile(rf"(?P<escaped>\\?)SHA(?:256|512) \((?P<name>.+)\) = (?P<digest>{_DIGEST})")
_ESCAPES = {"\\": "\\", "n": "\n", "r": "\r"}


def parse(text: bytes, where: str) -> dict[str, str]:
    """Name -> digest in lower-case hex. Raises BcmError, which names ``where`` the text is from."""
    found: dict[str, str] = {}
    # splitlines() of a str would also split at what is allowed in a name
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.decode("utf-8", "surrogateescape")
        match = _GNU.fullmatch(line) or _BSD.fullmatch(line)
        if match is None:
            if line:
                raise BcmError(where, f"is not a list of digests: line {number} is {ascii(line[:80])}", code="damaged")
            continue
        name, digest = match["name"], match["digest"].lower()
        if match["escaped"]:
            name = re.sub(r"\\([\\nr])", lambda escape: _ESCAPES[escape[1]], name)
        name = name.removeprefix("./")
        if found.setdefault(name, digest) != digest:
            raise BcmError(
                where,
                f"lists {ascii(name)} twice, with different digests: it is not to be trusted",
                code="not_verified",
            )
    return found


def lookup(sums: dict[str, str], pin: Pin, where: str) -> None:
    """Check that the pinned file is listed with the pinned digest. Raises BcmError."""
    listed = sums.get(pin.name)
    if listed is None:
        raise BcmError(where, f"does not list {pin.name}: it is of another release, or incomplete", code="not_verified")
    if listed != pin.digest:
        raise BcmError(
            where, f"lists {pin.name} with another digest: pinned {pin.digest}, listed {listed}", code="not_verified"
        )


def check_commit(text: bytes, commit: str, where: str) -> None:
    """Check that a manifest names that commit, on its one line ``commit: ID``. Raises BcmError."""
    named = {line.removeprefix(b"commit:").strip() for line in text.splitlines() if line.startswith(b"commit:")}
    if named != {commit.encode()}:
        listed = ", ".join(sorted(ascii(line.decode("utf-8", "surrogateescape"))[1:-1] for line in named)) or "none"
        raise BcmError(where, f"names another commit: pinned {commit}, named {listed}", code="not_verified")
