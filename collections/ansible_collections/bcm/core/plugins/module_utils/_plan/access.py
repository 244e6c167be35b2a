# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access: from where services are reached, beside the machine itself, as the variable ``bcm_access`` says."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from .._base import names
from .._base.fields import CatalogueError, Field
from .catalogue import Catalogue
from .stack import Service

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
#: between the service and the place in the description of its rule
FROM_LAN = " from the local network at "
#: Ends of names that no public authority certifies: nobody but this data center answers to them elsewhere.
_OWN_ENDS = ("home", "home.arpa", "internal", "lan", "local")


def client_name(client: str, stack: str) -> str:
    """The name of the certificate with which a client reaches a stack in local networks.

    No other certificate has such a name: neither that of a stack, nor one that `bcm ca issue` gives.
    """
    return f"{client}@{stack}"


def granted_stack(name: str) -> tuple[str, str] | None:
    """The client and the stack of a certificate that `client_name` names; None for any other."""
    client, sign, stack = name.rpartition("@")
    return (client, stack) if sign else None


@dataclass(frozen=True)
class LanAccess:
    """An address and a port of a host that lead to a service, and the networks that may use them."""

    stack: str
    service: str
    address: str
    port: int
    sources: tuple[str, ...]
    names: tuple[str, ...]  # by which clients connect, beside the address
    public: str | None  # why a client needs no certificate

    @property
    def place(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def description(self) -> str:
        return f"{self.stack} {self.service}{FROM_LAN}{self.place}"

    @property
    def warning(self) -> str | None:
        """What a run says of it each time, if anybody there may come."""
        if self.public is None:
            return None
        where = f"{', '.join(self.sources)} at {self.place}"
        return f"{self.stack} {self.service} is open to everybody in {where}: {self.public} (bcm_access)"


@dataclass(frozen=True)
class OnionAccess:
    """Whether a service has an onion address, and why everybody may come there, if so."""

    enabled: bool
    public: str | None


@dataclass(frozen=True)
class Access:
    """All that ``bcm_access`` says; an onion service that it does not name is as its stack says."""

    lan: tuple[LanAccess, ...] = ()
    onions: Mapping[tuple[str, str], OnionAccess] | None = None

    def of(self, stack: str, service: str) -> LanAccess | None:
        """From which local networks a service is reached."""
        return next((item for item in self.lan if (item.stack, item.service) == (stack, service)), None)

    @property
    def domains(self) -> tuple[str, ...]:
        """Names in local networks that the data center may certify without being told so."""
        return tuple(dict.fromkeys(name for item in self.lan for name in item.names if _is_own_name(name)))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Addresses in local networks that the data center may certify without being told so, as networks."""
        networks = [IPv4Network(item.address) for item in self.lan]
        return tuple(dict.fromkeys(str(found) for found in networks if _is_of_local_networks(found)))

    def onion(self, stack: str, service: str) -> OnionAccess | None:
        return (self.onions or {}).get((stack, service))


def read(declared: Any, catalogue: Catalogue, own: Collection[IPv4Network]) -> Access:
    """What the variable says; ``own`` are networks of the data center. Raises BcmError, which names the entry."""
    field = Field(Path("the inventory"), "bcm_access", declared)
    lan: dict[str, LanAccess] = {}
    onions: dict[tuple[str, str], OnionAccess] = {}
    taken: set[tuple[str, str]] = set()
    for key, entry in field.entries().items():
        stack, service = _service(entry, key, catalogue)
        if (stack, service) in taken:
            entry.wrong("names a service that another entry names", "write one entry for each service")
        taken.add((stack, service))
        fields = entry.mapping(optional=("lan", "onion"))
        if "lan" in fields:
            found = _lan(fields["lan"], stack, service, catalogue, own)
            other = lan.setdefault(found.place, found)
            if other is not found:
                fields["lan"].wrong(
                    f"is at {found.place}, as {other.stack} {other.service} is", "give one of them another port"
                )
        if "onion" in fields:
            onions[stack, service] = _onion(fields["onion"], catalogue[stack].services[service])
    return Access(tuple(lan.values()), onions)


def _service(field: Field, key: str, catalogue: Catalogue) -> tuple[str, str]:
    """The stack and the service of an entry: ``stack/service``, or ``stack`` if it has one that can be meant."""
    name, _slash, part = key.partition("/")
    if name not in catalogue:
        raise CatalogueError.of(names.unknown("stack", name, catalogue)).within(f"{field.source}: {field.path}")
    services = catalogue[name].services
    if part:
        if part not in services:
            unknown = CatalogueError.of(names.unknown(f"service of {name}", part, services))
            raise unknown.within(f"{field.source}: {field.path}")
        return name, part
    meant = [page.service for page in catalogue[name].web] or list(services)
    if len(set(meant)) != 1:
        which = " or ".join(f"{name}/{each}" for each in dict.fromkeys(meant))
        field.wrong(
            "does not say which service is meant" if meant else "has no service",
            f"write {which} in its place" if meant else "leave it out",
        )
    return name, meant[0]


def _lan(
    field: Field, stack: str, service: str, catalogue: Catalogue, own: Collection[IPv4Network]
) -> LanAccess:
    there = catalogue[stack].services[service]
    if not there.is_proxied:
        fault = f"cannot be: {stack} {service} has no TLS that asks clients for certificates"
        field.wrong(fault, "use its onion address")
    if catalogue[stack].uplink:
        field.wrong(f"cannot be: {stack} has a way out of its own", "use its onion address")
    fields = field.mapping(required=("address", "port", "from"), optional=("names", "public"))
    sources = tuple(_network(item, own) for item in fields["from"].items(least=1))
    return LanAccess(
        stack=stack,
        service=service,
        address=_address(fields["address"]),
        port=fields["port"].port(),
        sources=sources,
        names=tuple(_name(item) for item in fields["names"].items()) if "names" in fields else (),
        public=_reason(fields["public"]) if "public" in fields else None,
    )


def _address(field: Field) -> str:
    text = field.text()
    try:
        address = IPv4Address(text)
    except ValueError:
        address = IPv4Address(0)
    if address.is_unspecified or address.is_loopback or address.is_multicast:
        field.wrong(f"is {field.shown}", "write an IPv4 address of the host, such as 192.168.1.10")
    return str(address)


def _network(field: Field, own: Collection[IPv4Network]) -> str:
    text = field.text()
    try:
        network = IPv4Network(text)
    except ValueError as error:
        field.wrong(
            f"is {field.shown}, no IPv4 network ({error})", "write an address or a network, such as 192.168.1.0/24"
        )
    if not _is_of_local_networks(network):
        field.wrong(
            f"is {field.shown}, which is not a private network",
            "write the networks of your clients, such as 192.168.1.0/24; for everybody else there are onion addresses",
        )
    if any(network.overlaps(each) for each in own):
        field.wrong(f"is {field.shown}, where the data center itself is", "write the networks of your clients")
    return str(network)


def _is_of_local_networks(network: IPv4Network) -> bool:
    """Whether it is private (RFC 1918), or one that providers and private overlay networks share (RFC 6598)."""
    if network.is_loopback or network.is_multicast:
        return False
    return network.is_private or network.subnet_of(IPv4Network("100.64.0.0/10"))


def _is_own_name(name: str) -> bool:
    """Whether it is a name of one label, or below one of the ends that no public authority certifies."""
    return "." not in name or any(name.endswith(f".{end}") for end in _OWN_ENDS)


def _name(field: Field) -> str:
    name = field.text().lower()
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        field.wrong(f"is {field.shown}", "write a name of the host, such as portal.home.arpa")
    return name


def _reason(field: Field) -> str:
    return " ".join(field.text().split())


def _onion(field: Field, service: Service) -> OnionAccess:
    if service.onion is None:
        field.wrong("cannot be: its stack.yml has no onion service there", "leave it out")
    if isinstance(field.value, bool):
        return OnionAccess(field.value, None)
    if not isinstance(field.value, dict):
        field.wrong(
            f"is {field.shown}", "write true, for clients with a key, false, or public: and why everybody may come"
        )
    return OnionAccess(True, _reason(field.mapping(required=("public",))["public"]))
