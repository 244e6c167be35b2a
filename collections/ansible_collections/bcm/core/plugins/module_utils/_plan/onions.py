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
    public: str | None
    address: str
    port: int
    listen: int

    @property
    def name(self) -> str:
        return f"{self.stack}-{self.service}"

    @property
    def facts(self) -> OnionFacts:
        """What the stack's role knows of it."""
        return OnionFacts(self.name, self.port, self.listen, self.public)

    @property
    def published(self) -> PublishedOnion:
        """As the module onion_service takes it."""
        return PublishedOnion(
            name=self.name,
            ports=(OnionPort(self.port, (f"{self.address}:{self.listen}",)),),
            authorization=self.public is None,
            pow=self.declared.pow,
            intro_defense=self.declared.intro_defense,
            max_streams=self.declared.max_streams,
        )


def onion_services(site: Site, stacks: Collection[str], holds: Callable[[str], bool]) -> list[OnionService]:
    """The onion services of these stacks whose conditions hold; none if their gateway is not there."""
    if site.catalogue.onion_gateway not in stacks:
        return []
    found = []
    for name in site.catalogue.ordered(stacks):
        for key, service in site.catalogue[name].services.items():
            onion, given = service.onion, site.access.onion(name, key)
            # What the inventory says goes over what the stack says.
            if onion and (given.enabled if given else onion.when is None or holds(onion.when)):
                port, address = service.ports[site.request.chain], str(site.addresses[name])
                public = site.publication_reason(name, key)
                ports = {"port": onion.port or port, "listen": onion.listen or port}
                found.append(OnionService(name, key, onion, public, address, **ports))
    return found


def facts(services: Collection[OnionService], stack: str) -> dict[str, OnionFacts]:
    """Those of one stack, by the names of its services."""
    return {found.service: found.facts for found in services if found.stack == stack}
