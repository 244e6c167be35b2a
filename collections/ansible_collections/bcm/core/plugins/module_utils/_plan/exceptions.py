# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Exceptions: what an inventory lets a stack reach past Tor, or ask through it, in so many words."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from .._base import names
from .._base.fields import CatalogueError, Field
from .catalogue import Catalogue

#: between the stack and the reason in the description of its rule, where `bcm status` reads what is in force
BY_EXCEPTION = " by exception: "
#: the same between the stack and the host that it asks
THROUGH_TOR = " through Tor to "


@dataclass(frozen=True)
class AllowedDestination:
    """One destination, on one port or on all but that of DNS, that a stack reaches without Tor."""

    stack: str
    to: str  # an IPv4 network
    protocol: str
    port: int | None
    why: str

    @property
    def description(self) -> str:
        return f"{self.stack}{BY_EXCEPTION}{self.why}"

    @property
    def warning(self) -> str:
        where = f"{self.to} {self.protocol}{'' if self.port is None else f' {self.port}'}"
        return f"{self.stack} reaches {where} without Tor: {self.why} (bcm_exceptions)"


@dataclass(frozen=True)
class AskedHost:
    """A host that a stack asks through Tor."""

    stack: str
    to: str
    why: str

    @property
    def description(self) -> str:
        return f"{self.stack}{THROUGH_TOR}{self.to}: {self.why}"


def read(declared: Any, catalogue: Catalogue) -> tuple[AllowedDestination, ...]:
    """What the variable ``bcm_exceptions`` says. Raises BcmError, which names the entry."""
    field = Field(Path("the inventory"), "bcm_exceptions", declared)
    return tuple(_allowed_destination(item, catalogue) for item in field.items())


def _allowed_destination(field: Field, catalogue: Catalogue) -> AllowedDestination:
    fields = field.mapping(required=("stack", "to", "protocol", "why"), optional=("port",))
    stack = fields["stack"].text()
    if stack not in catalogue:
        unknown = CatalogueError.of(names.unknown("stack", stack, catalogue))
        raise unknown.within(f"{field.source}: {fields['stack'].path}")
    return AllowedDestination(
        stack=stack,
        to=_network(fields["to"]),
        protocol=fields["protocol"].choice(("tcp", "udp")),
        port=fields["port"].port() if "port" in fields else None,
        why=" ".join(fields["why"].text().split()),
    )


def _network(field: Field) -> str:
    text = field.text()
    try:
        return str(IPv4Network(text))
    except ValueError as error:
        field.wrong(
            f"is {field.shown}, no IPv4 network ({error})", "write an address or a network, such as 203.0.113.0/24"
        )
