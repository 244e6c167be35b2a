# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Version floors: below which version a program has known faults that were mended later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._errors import BcmError

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")


def satisfies(version: str, floor: Mapping[str, Any]) -> bool:
    """Whether a version is not below its floor, ``{versions: [...], why: ...}``.

    Several versions mean that several lines of releases are maintained: a version counts if it is at least the floor
    of its own line, or at least the highest floor. What tells the lines apart is what tells the floors apart: the first
    number of 31.1, 30.3 and 29.4, the third of 0.4.9.5 and 0.4.8.22. Raises BcmError if a version has no number in it.
    """
    own = numbers(version)
    floors = [numbers(item) for item in floor["versions"]]
    if own >= max(floors):
        return True
    for item in floors:
        line = 1 + max((_common(item, other) for other in floors if other != item), default=0)
        if own[:line] == item[:line] and own >= item:
            return True
    return False


def numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version ("v26.06.8" is 26, 6, 8), without zeros at the end, so that 31 equals 31.0."""
    found = _NUMBERS.search(version)
    if found is None:
        raise BcmError(f'"{version}" is no version: there is no number in it')
    parts = [int(part) for part in found.group().split(".")]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return tuple(parts)


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
