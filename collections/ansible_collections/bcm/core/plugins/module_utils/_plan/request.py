# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan is made from: what a person asked for, what was found, and what follows from the names alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from .._base import names, network
from . import access, exceptions
from .catalogue import Catalogue
from .limits import Host

# all but 53: no question for a name leaves
_WORLD = "1-52,54-65535"
#: at which each instance hands out its journal
JOURNAL_PORT = 19531

_SOURCE, _WHY = "user.bcm.source.", "user.bcm.why."
#: mark of the project: the newest version of a stack that ran
VERSION = "user.bcm.version."

STATES = ("present", "stopped", "restarted", "absent")


@dataclass(frozen=True)
class Request:
    """What a person asked for, and the settings of the data center's inventory."""

    stacks: Sequence[str]
    chain: str
    datacenter: str
    state: str = "present"
    storage_pool: str = "default"
    host: str | None = None  # the member of the endpoint's cluster that has everything
    endpoint: str | None = None
    subnet: str | None = None
    ca_provider: str | None = None  # that of the chain
    software_ca_chains: Collection[str] = ()
    allow_below_floor: Collection[str] = ()
    delete_data: bool = False
    #: POOL/VOLUME of all that may be deleted; None for whatever the request means
    confirmed_volumes: Collection[str] | None = None
    move_volumes: bool = False
    identity: str | None = None  # the mark of the data center at its endpoint
    exceptions: Sequence[Any] = ()  # as `exceptions.read` takes them
    access: Mapping[str, Any] = field(default_factory=dict)  # as `access.read` takes it
    downloads_through_tor: bool | None = None  # on all chains but regtest

    @property
    def provider(self) -> str:
        return self.ca_provider or names.ca_provider(self.chain)

    @property
    def proxies_downloads(self) -> bool:
        given = self.downloads_through_tor
        return self.chain != names.TOY_CHAIN if given is None else given

    @property
    def brings_up(self) -> bool:
        return self.state in ("present", "restarted")


@dataclass(frozen=True)
class Deployed:
    """A stack's instance as it was found."""

    requested: bool
    running: bool
    #: the hash of the image that it was made from
    image: str = ""
    #: the member of a cluster that it is on
    location: str | None = None


def read_versions(config: Mapping[str, str]) -> dict[str, str]:
    """The newest versions that ran, as the configuration of a data center's project remembers them, by stack."""
    return {key.removeprefix(VERSION): value for key, value in config.items() if key.startswith(VERSION)}


@dataclass(frozen=True)
class Source:
    """Which source of a stack was taken, and why, for people."""

    name: str
    why: str

    @staticmethod
    def read(config: Mapping[str, str]) -> dict[str, Source]:
        """Those that the configuration of a data center's project remembers, by stack."""
        taken = {key.removeprefix(_SOURCE): value for key, value in config.items() if key.startswith(_SOURCE)}
        return {stack: Source(name, config.get(f"{_WHY}{stack}", "")) for stack, name in taken.items()}

    def config(self, stack: str) -> dict[str, str]:
        return {f"{_SOURCE}{stack}": self.name, f"{_WHY}{stack}": self.why}


@dataclass(frozen=True)
class Volume:
    """A custom volume as it was found."""

    pool: str
    name: str
    #: the marks of this data center that it does not bear
    missing_marks: Sequence[str] = ()
    #: the pool in which a whole copy of it lies
    moved_to: str | None = None
    #: the member of a cluster that has it, if only that one has
    location: str | None = None

    @property
    def is_ours(self) -> bool:
        return not self.missing_marks

    def __str__(self) -> str:
        return f"{self.pool}/{self.name}"


@dataclass(frozen=True)
class Member:
    """A member of a cluster: bytes of its memory that are free, None if it takes no instances now; and its size."""

    name: str
    free: int | None
    host: Host = Host()


@dataclass(frozen=True)
class ProjectState:
    """What the data center's project holds before anything is done."""

    stacks: Mapping[str, Deployed] = field(default_factory=dict)
    builders: Sequence[str] = ()
    left_builders: Sequence[str] = ()  # of them, those that no run uses any more
    foreign_instances: Sequence[str] = ()
    volumes: Sequence[Volume] = ()
    sources: Mapping[str, Source] = field(default_factory=dict)  # stack -> where what it is made of came from
    versions: Mapping[str, str] = field(default_factory=dict)  # stack -> the newest that ran, if no older one may
    kept: Collection[str] = ()  # files of secrets that were made for it
    onions: Collection[str] = ()  # onion services that have addresses
    secrets: Collection[str] = ()  # names of secrets that were made for it
    architecture: str = "x86_64"  # the kernel's name of it
    host: Host = Host()
    members: Sequence[Member] = ()  # none without a cluster

    @property
    def locations(self) -> set[str]:
        """The members of a cluster that have instances or volumes of the data center."""
        places = (*(volume.location for volume in self.volumes), *(item.location for item in self.stacks.values()))
        return set(filter(None, places))

    def sources_of(self, stacks: Collection[str]) -> dict[str, Source]:
        return {name: source for name, source in self.sources.items() if name in stacks}

    def versions_of(self, stacks: Collection[str]) -> dict[str, str]:
        return {name: version for name, version in self.versions.items() if name in stacks}


@dataclass(frozen=True)
class WayOut:
    """What may be reached outside: ``to`` are networks and ``port`` are ports, separated by commas."""

    protocol: str
    to: str
    port: str
    why: str


class Site:
    """A data center on a chain: its names, subnets and addresses, and the connections in it."""

    def __init__(self, catalogue: Catalogue, request: Request) -> None:
        self.catalogue = catalogue
        self.request = request
        self.names = names.datacenter_names(request.datacenter, request.chain)
        self.subnets = network.subnets(request.datacenter, request.chain, request.subnet)
        self.addresses: dict[str, IPv4Address] = network.addresses(self.subnets.network, catalogue)
        self.builders: dict[str, IPv4Address] = network.addresses(
            network.builders(self.subnets.network), catalogue, others=self.addresses.values()
        )
        self._exceptions = exceptions.read(list(request.exceptions), catalogue)
        own = (self.subnets.network, self.subnets.uplink, self.subnets.builders)
        self.access = access.read(request.access, catalogue, own)
        self.uplinks: dict[str, IPv4Address] = network.addresses(self.subnets.uplink, catalogue, self._way_out)

    def _way_out(self, stack: str) -> str:
        """What the address on the uplink is a hash of.

        The host lets packets of a connection pass as long as there are any, whatever became of the rule that let it
        begin; but none from an address that is not the instance's any more.
        """
        ways = sorted(f"{item.protocol} {item.to} {item.port}" for item in self.exceptions(stack))
        ways += sorted(f"{item.service} {item.place} {' '.join(item.sources)}" for item in self.lan(stack))
        return " ".join([stack, *ways])

    @property
    def owner(self) -> dict[str, str]:
        """The marks that everything of the data center bears, and nothing else does."""
        return {"user.bcm.datacenter": self.request.datacenter, "user.bcm.chain": self.request.chain}

    def port(self, stack: str, key: str) -> int | None:
        """The port of a service; None on a chain that the stack lacks, which is met where stacks are removed."""
        return self.catalogue[stack].services[key].ports.get(self.request.chain)

    def through_tor(self, *stacks: str) -> list[exceptions.AskedHost]:
        """Whom some stacks ask through Tor."""
        return [
            exceptions.AskedHost(name, host, asked.why)
            for name in stacks
            for asked in self.catalogue[name].through_tor
            for host in asked.hosts
        ]

    def exceptions(self, *stacks: str) -> list[exceptions.AllowedDestination]:
        """What some stacks may reach past Tor."""
        return [allowed for allowed in self._exceptions if allowed.stack in stacks]

    def lan(self, *stacks: str) -> list[access.LanAccess]:
        """From which local networks some stacks are reached."""
        return [item for item in self.access.lan if item.stack in stacks]

    def publication_reason(self, stack: str, service: str) -> str | None:
        """Why everybody may come to an onion service; what the inventory says goes over what the stack says."""
        given, onion = self.access.onion(stack, service), self.catalogue[stack].services[service].onion
        found = given or onion
        return found.public if found else None

    @property
    def download_proxy(self) -> str | None:
        """The stack through which downloads come; None if they come directly."""
        return self.catalogue.download_proxy if self.request.proxies_downloads else None

    @property
    def download_ports(self) -> dict[str, int]:
        """Ports of the proxy of downloads, by what they speak: ``socks`` and ``tunnel``."""
        stack = self.catalogue[str(self.download_proxy)]
        return {key: stack.services[name].ports[self.request.chain] for key, name in stack.download_proxy.items()}

    def ways_out(self, stack: str) -> list[WayOut]:
        """All that a stack may reach outside."""
        world = WayOut("tcp", ",".join(network.public()), _WORLD, f"{stack} to the world")
        return [world] * (self.catalogue[stack].uplink is not None) + [
            WayOut(item.protocol, item.to, str(item.port or _WORLD), item.description)
            for item in self.exceptions(stack)
        ]

    def needs_ca(self, stack: str) -> bool:
        """Whether a stack has to know the root: for its own certificate, or for that of a stack it needs."""
        return self.has_certificate(stack) or any(self._used_tls(stack))

    def has_certificate(self, stack: str) -> bool:
        """Whether a stack has a certificate of its own."""
        return bool(self.usage(stack))

    def usage(self, stack: str) -> list[str]:
        """What its certificate is for: to serve, and to authenticate to the stacks it needs, or to its own program."""
        services = self.catalogue[stack].services.values()
        client = "mutual" in self._used_tls(stack) or any(service.grpc for service in services)
        return ["server"] * any(service.tls for service in services) + ["client"] * client

    def _used_tls(self, stack: str) -> list[str | None]:
        """``tls`` of all services that a stack uses."""
        needs = self.catalogue[stack].needs
        return [self.catalogue[other].services[key].tls for other, need in needs.items() for key in need.services]

    def journals(self, stacks: Collection[str]) -> list[tuple[str, str]]:
        """The stack that reads journals, with each of the given ones, itself included; none if it is not there."""
        reader = self.catalogue.journal_reader
        return [(reader, name) for name in self.catalogue.ordered(stacks)] if reader in stacks and reader else []

    def edges(self, stacks: Collection[str]) -> list[tuple[str, str, str]]:
        """Consumer, provider and service of all the stacks given that talk to each other."""
        return [
            (name, other, service)
            for name in self.catalogue.ordered(stacks)
            for other, need in self.catalogue[name].needs.items()
            if other in stacks
            for service in need.services
        ]
