# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Readers of what others wrote: strangers, programs, people. Each fails in one way only, with ValueError."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_NUMBER = re.compile(r"[0-9]{1,19}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(text: str | bytes) -> Any:
    """What JSON says, without numbers that JSON does not have and halves of characters. Raises ValueError."""
    try:
        found = json.loads(text, parse_constant=_no_number)
        if _SURROGATE.search(text if isinstance(text, str) else text.decode("utf-8")):
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    return found


def read_object(text: str | bytes) -> dict[str, Any]:
    """A mapping in JSON. Raises ValueError."""
    found = read_json(text)
    if not isinstance(found, dict):
        raise ValueError("it holds no mapping")
    return found


def is_integer(value: Any) -> bool:
    """Whether a value of YAML or JSON is a whole number; a boolean, an integer for Python, is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def read_number(text: str, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number in ASCII digits. Raises ValueError."""
    number = int(text) if _NUMBER.fullmatch(text) else -1
    if not least <= number <= most:
        raise ValueError(f"{text[:80]!r} is no whole number from {least} to {most}")
    return number


def read_moment(text: Any) -> datetime:
    """A point in time as ISO 8601 has it, in UTC if it names no zone. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no point in time")
    found = datetime.fromisoformat(text)
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is no point in time in UTC") from error


def texts_of(found: Any) -> Mapping[str, str]:
    """A mapping of names to texts. Raises ValueError for anything else."""
    if not isinstance(found, dict) or not all(isinstance(item, str) for pair in found.items() for item in pair):
        raise ValueError("it holds no mapping of names to texts")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")
