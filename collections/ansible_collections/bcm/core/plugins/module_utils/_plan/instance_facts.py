# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role knows of its instance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address

from .._base import names, network
from .._base.errors import BcmError
from .._base.fields import size_in_bytes
from .._base.read import read_number
from . import onions
from .checks import Variables
from .model import (
    Consumer,
    HostPort,
    Instance,
    JournalFacts,
    LanFacts,
    NeededService,
    OfferedService,
    OnionFacts,
    PageFacts,
    PlaceFacts,
    PublicOnion,
    StackSummary,
    Uplink,
    VolumeFacts,
)
from .onions import OnionService
from .request import JOURNAL_PORT, Site
from .stack import Service, Stack, WebPage


def describe(
    site: Site,
    name: str,
    running: Collection[str],
    requested: bool,
    onion_services: Sequence[OnionService],
    variables: Variables | None,
) -> Instance:
    """The facts of an instance among those that run; without variables, of one that is to be stopped or removed."""
    request, stack = site.request, site.catalogue[name]
    services = {key: _offered(site, stack, key, service, variables) for key, service in stack.services.items()}
    journals = {other: _journal(site, other, reader) for reader, other in site.journals(running)}
    return Instance(
        stack=name,
        role=stack.role,
        role_path=str(stack.role_path),
        description=stack.description,
        user=stack.user,
        tier=stack.tier,
        chain=request.chain,
        datacenter=request.datacenter,
        domain=site.names.domain,
        project=site.names.project,
        address=str(site.addresses[name]),
        network=str(site.subnets.network),
        gateway=str(network.gateway(site.subnets.network)),
        requested=requested,
        services=services,
        needs={
            other: {key: _needed(site, other, key) for key in need.services}
            for other, need in stack.needs.items()
            if not need.optional or other in running
        },
        choices=stack.choices,
        consumers={
            other: Consumer(
                address=str(site.addresses[other]),
                services=need.services,
                permissions=need.permissions,
                events=tuple(site.catalogue.events(other, running)),
            )
            for other in site.catalogue.ordered(running)
            if (need := site.catalogue[other].needs.get(name))
        },
        events=site.catalogue.events(name, running),
        journal=journals.get(name),
        journals=journals if stack.reads_journals else {},
        credentials=tuple(site.catalogue.credentials(name, running)),
        makes_credentials=stack.makes_credentials,
        own_steps=stack.own_steps,
        level=site.catalogue.levels(running)[name],
        onions=onions.facts(onion_services, name),
        web=tuple(_page(page, str(site.addresses[name]), services[page.service]) for page in stack.web),
        volumes={
            key: VolumeFacts(
                names.volume_name(name, key),
                _pool(site, stack, key, variables),
                volume.path,
                _size(site, stack, key, variables),
                volume.backup,
            )
            for key, volume in stack.volumes.items()
        },
        needs_ca=site.needs_ca(name),
        has_certificate=site.has_certificate(name),
        uplink=_uplink(site, name),
        builders=str(network.builders(site.subnets.network)) if name == site.download_proxy else None,
        exceptions=tuple(site.exceptions(name)),
        through_tor=tuple(site.through_tor(name)),
    )


def summarize(
    site: Site, name: str, onion_services: Sequence[OnionService], variables: Variables | None
) -> StackSummary:
    """What people are told of a stack that is there."""
    stack, own = site.catalogue[name], onions.facts(onion_services, name)
    services = {page.service: stack.services[page.service] for page in stack.web}
    offered = {key: _offered(site, stack, key, service, variables) for key, service in services.items()}
    return StackSummary(
        stack=name,
        description=stack.description,
        floor=stack.artifact.floor.versions if stack.artifact.floor else (),
        web=tuple(_place(page, _page(page, str(site.addresses[name]), offered[page.service]),
                         offered[page.service], own) for page in stack.web),
        onions=tuple(PublicOnion(item.name, key, item.port, item.public) for key, item in own.items()),
    )


def _place(page: WebPage, facts: PageFacts, service: OfferedService, own: Mapping[str, OnionFacts]) -> PlaceFacts:
    lan, onion = service.lan, own.get(page.service)
    where = f"{lan.names[0] if lan.names else lan.address}:{lan.port}" if lan else None
    return PlaceFacts(
        title=page.title,
        path=page.path,
        url=facts.url,
        lan=page.url(where, service.tls) if where else None,
        onion=onion.name if onion else None,
        onion_port=onion.port if onion else None,
    )


def _needed(site: Site, other: str, key: str) -> NeededService:
    service = site.catalogue[other].services[key]
    return NeededService(str(site.addresses[other]), site.port(other, key), service.protocol, service.tls)


def _journal(site: Site, name: str, reader: str) -> JournalFacts:
    return JournalFacts(str(site.addresses[name]), JOURNAL_PORT, str(site.addresses[reader]))


def _offered(site: Site, stack: Stack, key: str, service: Service, variables: Variables | None) -> OfferedService:
    addresses = site.uplinks if service.host_port else site.addresses
    lan = site.access.of(stack.name, key)
    return OfferedService(
        port=site.port(stack.name, key),
        protocol=service.protocol,
        tls=service.tls,
        listen="127.0.0.1" if service.is_proxied else str(addresses[stack.name]),
        host_port=_host_port(stack, key, variables) if service.host_port else None,
        grpc=service.grpc,
        lan=LanFacts(lan.address, lan.port, lan.sources, lan.names, lan.public) if lan else None,
    )


def _page(page: WebPage, address: str, service: OfferedService) -> PageFacts:
    there = service.host_port or HostPort(address, service.port or 0)
    url = page.url(f"{there.address}:{there.port}", service.tls)
    return PageFacts(page.service, page.path, page.title, page.icon, url)


def _host_port(stack: Stack, key: str, variables: Variables | None) -> HostPort | None:
    """The address and port of the host that lead to it; None if none does."""
    variable = f"{stack.prefix}_{key}_host_port"
    where = str((variables and variables.value(variable)) or "")
    if not where:
        return None
    address, _colon, port = where.rpartition(":")
    try:
        if IPv4Address(address).is_unspecified:
            raise ValueError
        return HostPort(address, read_number(port, 1, 65535))
    except ValueError:
        raise BcmError(
            f"Variable {variable}",
            f'is "{where}"',
            remedy="write an IPv4 address of the host and a port, such as 192.0.2.1:443",
            code="invalid_value",
        ) from None


def _size(site: Site, stack: Stack, key: str, variables: Variables | None) -> str:
    variable = f"{stack.prefix}_{key}_size"
    size = variables.value(variable) if variables else None
    if size is None:
        return stack.volumes[key].size(site.request.chain)
    try:
        size_in_bytes(str(size))
    except BcmError as error:
        raise error.within(f"Variable {variable}") from error
    return str(size)


def _pool(site: Site, stack: Stack, key: str, variables: Variables | None) -> str:
    return str((variables and variables.value(f"{stack.prefix}_{key}_pool")) or site.request.storage_pool)


def _uplink(site: Site, name: str) -> Uplink | None:
    """Its second network, and what it may reach there; None if it has none."""
    rules = tuple(site.ways_out(name))
    answers = tuple(dict.fromkeys(source for item in site.lan(name) for source in item.sources))
    if not rules and not answers:
        return None
    return Uplink(
        user=site.catalogue[name].uplink,
        address=str(site.uplinks[name]),
        gateway=str(network.gateway(site.subnets.uplink)),
        subnet=str(site.subnets.uplink),
        rules=rules,
        answers=answers,
    )
