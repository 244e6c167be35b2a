# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Onion services that stacks declare, as they are in one data center."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from .model import OnionFacts, OnionPort, PublishedOnion
from .request import Site
from .stack import Onion


@dataclass(frozen=True)
class OnionService:
    """The onion service of a stack's service: ``port`` at its address leads to ``address``, port ``listen``."""

    stack: str
    service: str
    declared: Onion
    address: str
    port: int
    listen: int

    @property
    def name(self) -> str:
        return f"{self.stack}-{self.service}"

    @property
    def facts(self) -> OnionFacts:
        """What the stack's role knows of it."""
        return OnionFacts(self.name, self.port, self.listen, self.declared.public)

    @property
    def published(self) -> PublishedOnion:
        """As the module onion_service takes it."""
        return PublishedOnion(
            name=self.name,
            ports=(OnionPort(self.port, (f"{self.address}:{self.listen}",)),),
            authorization=self.declared.public is None,
            pow=self.declared.pow,
            intro_defense=self.declared.intro_defense,
            max_streams=self.declared.max_streams,
        )


def onion_services(site: Site, stacks: Collection[str], holds: Callable[[str], bool]) -> list[OnionService]:
    """The onion services of these stacks whose conditions hold; none if their gateway is not there."""
    if site.catalogue.onion_gateway not in stacks:
        return []
    return [
        OnionService(name, key, onion, str(site.addresses[name]), port=onion.port or port, listen=onion.listen or port)
        for name in site.catalogue.ordered(stacks)
        for key, service in site.catalogue[name].services.items()
        if (onion := service.onion) and (onion.when is None or holds(onion.when))
        for port in [service.ports[site.request.chain]]
    ]


def facts(services: Collection[OnionService], stack: str) -> dict[str, OnionFacts]:
    """Those of one stack, by the names of its services."""
    return {found.service: found.facts for found in services if found.stack == stack}
