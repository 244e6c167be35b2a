# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order of versions, and version floors: the lowest versions without known faults."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .errors import BcmError

# what authors write where Debian writes "~": 31.1rc2, 0.4.9.14-rc, 4.0.0b1, 1.0.dev3; a letter alone may be a hash's
_PRE_RELEASE = r"[-._~]?((?:(?:alpha|beta|preview|pre|rc|dev)(?![a-z])|[abc](?=\d{1,3}(?![0-9a-z])))(?:[-.]?\d+)?)"

#: a version in a program's output: "31.1", "31.1rc2", "0.4.9.14-rc", "0.21.3-beta.rc1"
FOUND = re.compile(rf"(?<!\d)\d+(?:\.\d+)+(?:{_PRE_RELEASE})*", re.ASCII)

_NUMBERS = re.compile(r"\d+(?:\.\d+)*", re.ASCII)
_VERSION = re.compile(r"[0-9A-Za-z.+:~_-]{1,128}")
_BEFORE = re.compile(_PRE_RELEASE, re.IGNORECASE)
_CHUNK = re.compile(r"(\D*)(\d*)")


def satisfies(version: str, floor: Mapping[str, Any]) -> bool:
    """Whether a version is not below its floor, ``{versions: [...], why: ...}``.

    Several versions mean that several lines of releases are maintained: a version counts if it is at least the floor
    of its own line, or at least the highest floor. What tells the lines apart is what tells the floors apart: the first
    number of 31.1, 30.3 and 29.4, the third of 0.4.9.5 and 0.4.8.22. A pre-release is below its release. Raises
    BcmError if a version has no number in it.
    """
    floors = floor["versions"]
    own = _release_order(version)
    if own >= max(map(_release_order, floors)):
        return True
    for item in floors:
        line = 1 + max((_common(numbers(item), numbers(other)) for other in floors if other != item), default=0)
        if numbers(version)[:line] == numbers(item)[:line] and own >= _release_order(item):
            return True
    return False


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version ("v26.06.8" is 26, 6, 8), without zeros at the end, so that 31 equals 31.0."""
    parts = [int(part) for part in _split(version)[0].split(".")]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return tuple(parts)


def order(version: str) -> tuple[Any, ...]:
    """Return the sort key of a Debian version (deb-version(7)): "~" sorts before the end of a part, and that before
    letters.

    Raises BcmError for an invalid version, or one of more than 128 characters.
    """
    _checked(version)
    epoch, _unused, rest = version.rpartition(":")
    main, _unused, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return _parts(epoch or "0"), _parts(main), _parts(revision)


def _release_order(version: str) -> tuple[Any, ...]:
    """Return the sort key of an upstream version: numbers first, then what follows; a pre-release sorts lower.

    That of a pre-release does, too: 0.21.3-beta.rc1 is before 0.21.3-beta.
    """
    before, after = "", _split(version)[1]
    while found := _BEFORE.match(after):
        before, after = f"{before}~{found[1]}", after[found.end() :]
    return numbers(version), _parts(before + after)


def _split(version: str) -> tuple[str, str]:
    """The numbers that a version begins with, and what follows them."""
    found = _NUMBERS.search(_checked(version))
    if found is None:
        raise BcmError(f'"{version}"', "is not a version: there is no number in it", code="invalid_value")
    return found.group(), version[found.end() :]


def _checked(version: str) -> str:
    if not _VERSION.fullmatch(version):
        raise BcmError(
            f"{version[:80]!r}", "is not a version", "write numbers with dots, such as 31.1", code="invalid_value"
        )
    return version


def _parts(text: str) -> tuple[tuple[list[int], int], ...]:
    return tuple(
        ([-1 if char == "~" else ord(char) + (0 if char.isalpha() else 256) for char in word] + [0], int(number or 0))
        for word, number in _CHUNK.findall(text)
    )


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
