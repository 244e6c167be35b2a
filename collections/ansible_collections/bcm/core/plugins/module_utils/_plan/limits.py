# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of the host an instance may take: memory, processors, processes, and room on its root disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .._base import names
from .._base.errors import BcmError
from .._base.fields import size_in_bytes
from .._base.schema import SIZE_TEXT, Number, Type

_MIB = 2**20
#: kind -> what a stack has that says nothing, and the end of the name of the variable that overrides it
KINDS: Mapping[str, tuple[str | int, str]] = {
    "memory": ("1GiB", "memory"),
    "processors": (2, "processors"),
    "processes": (500, "processes"),
    "root": ("4GiB", "root_size"),
}
_LEAST_PROCESSES = 100  # systemd and what it starts


@dataclass(frozen=True)
class Host:
    """What the machine has: bytes of memory and processors; 0 for what it does not tell."""

    memory: int = 0
    processors: int = 0


@dataclass(frozen=True)
class Limits:
    """What an instance may take of the host; sizes as LXD writes them."""

    memory: str
    processors: int
    processes: int
    root: str


#: kind -> what a stack.yml may say of it
TYPES: Mapping[str, Type] = {
    "memory": SIZE_TEXT,
    "processors": Number(1, 2**20),
    "processes": Number(_LEAST_PROCESSES, 2**20),
    "root": SIZE_TEXT,
}


def declared_limits(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str | int]]:
    """The limits of a stack, kind -> chain or "default" -> value, as LXD takes them."""
    found: dict[str, dict[str, str | int]] = {kind: {"default": default} for kind, (default, _end) in KINDS.items()}
    for kind, chains in values.items():
        found[kind] |= {
            chain: value.replace(" ", "") if isinstance(value, str) else value for chain, value in chains.items()
        }
    return found


def choose_limits(
    stack: str, limits_of: Mapping[str, Mapping[str, Any]], chain: str, host: Host, value: Callable[[str], Any]
) -> tuple[Limits, list[str]]:
    """The limits of an instance, and warnings about what is less than was asked for; ``value`` is of variables.

    Sizes are written as LXD takes them. No instance gets more than the host has, and three quarters of its memory at
    most, or one would bring down the others. Raises BcmError for variables that say nothing that can be.
    """
    limits: dict[str, Any] = {}
    warnings = []
    for kind, (_default, end) in KINDS.items():
        variable = f"{names.variable_prefix(stack)}_{end}"
        given = value(variable)
        wanted = (
            limits_of[kind].get(chain, limits_of[kind]["default"])
            if given is None
            else _parse_variable(variable, kind, given)
        )
        limits[kind] = _fit_to_host(kind, wanted, host)
        # of processors, a stack takes what there is
        if limits[kind] != wanted and (given is not None or kind != "processors"):
            warnings.append(
                f"{stack} is to have {kind} {wanted}, and gets {limits[kind]}: the host has no more to give"
            )
    return Limits(**limits), warnings


def _parse_variable(variable: str, kind: str, given: Any) -> str | int:
    """The value of a variable, by the rules of a stack.yml."""
    if kind in ("memory", "root"):
        try:
            size_in_bytes(str(given))
        except BcmError as error:
            raise error.within(f"Variable {variable}") from error
        return str(given).replace(" ", "")
    least = _LEAST_PROCESSES if kind == "processes" else 1
    text = str(given)
    if isinstance(given, bool) or not (text.isascii() and text.isdigit() and len(text) < 8 and int(text) >= least):
        raise BcmError(
            f"Variable {variable}", f'is "{given}"', f"write a whole number, at least {least}", code="invalid_value"
        )
    return int(text)


def _fit_to_host(kind: str, wanted: Any, host: Host) -> Any:
    if kind == "processors" and host.processors:
        return min(wanted, host.processors)
    if kind == "memory" and host.memory:
        most = host.memory // 4 * 3 // _MIB
        return wanted if size_in_bytes(wanted) <= most * _MIB else f"{most}MiB"
    return wanted
