# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Readers of foreign input. Each fails only with ValueError."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

try:
    import yaml
except ImportError:  # ansible-core brings it; only the sanity tests import this without
    yaml = None  # type: ignore[assignment]

_NUMBER = re.compile(r"[0-9]{1,19}")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(text: str | bytes) -> Any:
    """Parse JSON strictly, without NaN, Infinity and lone surrogates. Raises ValueError."""
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


def read_yaml(text: bytes) -> Any:
    """Parse YAML of plain types, by libyaml where it is there, which is ten times faster. Raises ValueError."""
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as error:  # a list in a list in a list
        raise ValueError(str(error)) from error


def has_shape(value: Any, shape: Any) -> bool:
    """Whether a value of JSON has a shape.

    A shape is a type, None, a tuple of which one has to fit, a list of the one shape of all items or of that of each,
    or a mapping of names to shapes, in which the name ``str`` stands for any.
    """
    if isinstance(shape, tuple):
        return any(has_shape(value, one) for one in shape)
    if isinstance(shape, list):
        if not isinstance(value, list) or len(shape) not in (1, len(value)):
            return False
        return all(has_shape(item, shape[at if len(shape) > 1 else 0]) for at, item in enumerate(value))
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return False
        names = dict.fromkeys(value, shape[str]) if str in shape else shape
        return all(name in value and has_shape(value[name], inner) for name, inner in names.items())
    if shape is int:
        return is_integer(value)
    return value is None if shape is None else isinstance(value, shape)


def read_shaped(text: str | bytes, shape: Any) -> Any:
    """A value in JSON that `has_shape`. Raises ValueError."""
    found = read_json(text)
    if not has_shape(found, shape):
        raise ValueError("it is not of the form that was asked for")
    return found


def is_integer(value: Any) -> bool:
    """Whether a value of YAML or JSON is an integer; a boolean, which is an integer in Python, is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def read_number(text: str, least: int = 0, most: int = 2**63 - 1) -> int:
    """A whole number in ASCII digits. Raises ValueError."""
    number = int(text) if _NUMBER.fullmatch(text) else -1
    if not least <= number <= most:
        raise ValueError(f"{text[:80]!r} is no whole number from {least} to {most}")
    return number


def read_id(text: str) -> int | None:
    """Return the number of a user or group (uid_t has 32 bits, the highest means none); None for anything else."""
    try:
        return read_number(text, 0, 2**32 - 2)
    except ValueError:
        return None


def read_moment(text: Any) -> datetime:
    """A point in time as ISO 8601 has it, in UTC if it names no zone. Raises ValueError."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a point in time")
    found = datetime.fromisoformat(text)
    try:
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is not a point in time in UTC") from error


def texts_of(found: Any) -> Mapping[str, str]:
    """A mapping of names to texts. Raises ValueError for anything else."""
    if not isinstance(found, dict) or not all(isinstance(item, str) for pair in found.items() for item in pair):
        raise ValueError("it holds no mapping of names to texts")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON")
