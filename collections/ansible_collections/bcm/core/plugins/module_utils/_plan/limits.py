# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of the host an instance may take: memory, processors, processes, and room on its root disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._base import names
from .._base.errors import BcmError
from .._base.fields import Field, size_in_bytes

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


def read(field: Field | None, chains: Sequence[str]) -> dict[str, dict[str, str | int]]:
    """The limits of a stack.yml, kind -> chain or "default" -> value. Raises CatalogueError."""
    fields = field.mapping(optional=tuple(KINDS)) if field else {}
    found: dict[str, dict[str, str | int]] = {kind: {"default": default} for kind, (default, _end) in KINDS.items()}
    for kind, entry in fields.items():
        found[kind] |= by_chain(entry, chains, _reader(kind))
    return found


def by_chain(field: Field, chains: Sequence[str], value: Callable[[Field], Any]) -> dict[str, Any]:
    """One value for all chains, as "default", or one for each of them. Raises CatalogueError."""
    if not isinstance(field.value, dict):
        return {"default": value(field)}
    entries = field.mapping(optional=(*chains, "default"))
    if "default" not in entries and set(entries) != set(chains):
        field.wrong("leaves out chains", "add default")
    return {chain: value(entry) for chain, entry in entries.items()}


def chosen(
    stack: str, declared: Mapping[str, Mapping[str, Any]], chain: str, host: Host, value: Callable[[str], Any]
) -> tuple[dict[str, Any], list[str]]:
    """The limits of an instance, and warnings about what is less than was asked for; ``value`` is of variables.

    Sizes are written as LXD takes them. No instance gets more than the host has, and three quarters of its memory at
    most, or one would bring down the others. Raises BcmError for variables that say nothing that can be.
    """
    limits, warnings = {}, []
    for kind, (_default, end) in KINDS.items():
        variable = f"{names.variable_prefix(stack)}_{end}"
        given = value(variable)
        wanted = (
            declared[kind].get(chain, declared[kind]["default"]) if given is None else _given(variable, kind, given)
        )
        limits[kind] = _fitted(kind, wanted, host)
        # of processors, a stack takes what there is
        if limits[kind] != wanted and (given is not None or kind != "processors"):
            warnings.append(
                f"{stack} is to have {kind} {wanted}, and gets {limits[kind]}: the host has no more to give"
            )
    return limits, warnings


def _reader(kind: str) -> Callable[[Field], str | int]:
    if kind in ("memory", "root"):
        return lambda field: field.size().replace(" ", "")
    least = _LEAST_PROCESSES if kind == "processes" else 1
    return lambda field: field.number(least, 2**20)


def _given(variable: str, kind: str, given: Any) -> str | int:
    """The value of a variable, by the rules of a stack.yml."""
    if kind in ("memory", "root"):
        try:
            size_in_bytes(str(given))
        except BcmError as error:
            raise BcmError(f"Variable {variable}: {error}") from error
        return str(given).replace(" ", "")
    least = _LEAST_PROCESSES if kind == "processes" else 1
    text = str(given)
    if isinstance(given, bool) or not (text.isascii() and text.isdigit() and len(text) < 8 and int(text) >= least):
        raise BcmError(f'Variable {variable} is "{given}": write a whole number, at least {least}')
    return int(text)


def _fitted(kind: str, wanted: Any, host: Host) -> Any:
    if kind == "processors" and host.processors:
        return min(wanted, host.processors)
    if kind == "memory" and host.memory:
        most = host.memory // 4 * 3 // _MIB
        return wanted if size_in_bytes(wanted) <= most * _MIB else f"{most}MiB"
    return wanted
