# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan: everything that plays, images and the endpoint need to know. The module `plan` documents each field.

Resources are mappings as ``lxd_apply`` takes them. `plain` makes of a plan what Ansible gets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .event_schemas import Schema
from .exceptions import AllowedDestination, AskedHost
from .limits import Limits
from .request import WayOut
from .stack import Floor

Resource = dict[str, Any]


def plain(value: Any) -> Any:
    """The same of mappings, lists, texts, numbers, booleans and None alone."""
    if dataclasses.is_dataclass(value):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


# -- networks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Subnet:
    """A network of the data center: its bridge, its IPv4 network, and the host's address in it."""

    name: str
    subnet: str
    gateway: str


@dataclass(frozen=True)
class Uplink:
    """An instance's second network; without ``user``, it has exceptions and clients in local networks alone."""

    user: str | None
    address: str
    gateway: str
    subnet: str
    rules: tuple[WayOut, ...]
    #: networks whose clients it answers
    answers: tuple[str, ...]


# -- instances ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HostPort:
    """An address and a port of the host that lead to a service."""

    address: str
    port: int


@dataclass(frozen=True)
class LanFacts:
    """How a service is reached from local networks; ``public`` is why a client needs no certificate, if so."""

    address: str
    port: int
    sources: tuple[str, ...]
    names: tuple[str, ...]
    public: str | None


@dataclass(frozen=True)
class OfferedService:
    """A service of an instance; ``listen`` is the address where its program has to listen, behind the proxy if any."""

    port: int | None  # None on a chain that the stack does not know
    protocol: str
    tls: str | None
    listen: str
    host_port: HostPort | None
    grpc: bool
    lan: LanFacts | None


@dataclass(frozen=True)
class NeededService:
    """A service that an instance uses."""

    address: str
    port: int | None
    protocol: str
    tls: str | None


@dataclass(frozen=True)
class Consumer:
    """A stack that uses an instance, and what of it."""

    address: str
    services: tuple[str, ...]
    permissions: Mapping[str, Any]
    #: topics that it writes
    events: tuple[str, ...]


@dataclass(frozen=True)
class JournalFacts:
    """Where an instance hands out its journal, and the address of the one that may ask for it."""

    address: str
    port: int
    reader: str


@dataclass(frozen=True)
class OnionFacts:
    """What a role knows of an onion service: connections to ``port`` of its address come in at ``listen``."""

    name: str
    port: int
    listen: int
    public: str | None


@dataclass(frozen=True)
class PageFacts:
    """A page for browsers, with its URL in the data center, or at the port of the host that leads to it."""

    service: str
    path: str
    title: str
    icon: str | None
    url: str


@dataclass(frozen=True)
class VolumeFacts:
    volume: str
    pool: str
    path: str
    size: str
    backup: str


@dataclass(frozen=True)
class ImageName:
    alias: str
    hash: str


@dataclass(frozen=True)
class ArtifactFacts:
    source: str
    kind: str
    name: str
    version: str | None


@dataclass(frozen=True)
class Instance:
    """What a role knows of its instance: ``bcm`` of its variables."""

    stack: str
    role: str
    role_path: str
    description: str
    user: str
    tier: str
    chain: str
    datacenter: str
    domain: str
    project: str
    address: str
    network: str
    gateway: str
    requested: bool
    services: Mapping[str, OfferedService]
    needs: Mapping[str, Mapping[str, NeededService]]
    choices: Mapping[str, str]
    consumers: Mapping[str, Consumer]
    #: topics that it writes, each with the Avro schemas of its events, the newest last
    events: Mapping[str, tuple[Schema, ...]]
    #: who reads its journal, if anybody does; and the journals of others that it reads, by stack
    journal: JournalFacts | None
    journals: Mapping[str, JournalFacts]
    #: names of those that other stacks make for it, and whether it makes those of its consumers
    credentials: tuple[str, ...]
    makes_credentials: bool
    #: which of configure and verify the tasks of its role do
    own_steps: tuple[str, ...]
    #: it is configured after the stacks with a lower one, where some make credentials
    level: int
    onions: Mapping[str, OnionFacts]
    web: tuple[PageFacts, ...]
    volumes: Mapping[str, VolumeFacts]
    needs_ca: bool
    has_certificate: bool
    uplink: Uplink | None
    builders: str | None
    exceptions: tuple[AllowedDestination, ...]
    through_tor: tuple[AskedHost, ...]
    # not needed of an instance that is stopped or removed
    limits: Limits | None = None
    image: ImageName | None = None
    artifact: ArtifactFacts | None = None
    left_behind: tuple[Resource, ...] = ()


@dataclass(frozen=True)
class PlaceFacts:
    """A page for browsers, and where it is reached: its URL in the data center and in local networks, its onion."""

    title: str
    path: str
    url: str
    lan: str | None
    onion: str | None
    onion_port: int | None


@dataclass(frozen=True)
class PublicOnion:
    """An onion service of a stack, as people are told of it."""

    name: str
    service: str
    port: int
    public: str | None


@dataclass(frozen=True)
class StackSummary:
    """What people are told of a stack that is there."""

    stack: str
    description: str
    floor: tuple[str, ...]
    web: tuple[PlaceFacts, ...]
    onions: tuple[PublicOnion, ...]


@dataclass(frozen=True)
class Reporter:
    """A stack that is told the report of each run, and the program that takes it."""

    stack: str
    program: str


# -- images ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Downloads:
    """How a builder, and the controller for it, fetch what goes into an image.

    ``proxy`` is the stack through which that comes; None for what is there before that stack.
    """

    proxy: str | None
    socks: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    nic: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Image:
    """An image, as the module `image` takes it; ``artifact`` and ``keys_path`` are as `artifact` takes them."""

    stack: str
    role: str
    role_path: str
    alias: str
    hash: str
    base_alias: str
    base_hash: str
    artifact: Mapping[str, Any]
    keys_path: str
    package: str
    downloads: Downloads | None
    version_command: tuple[str, ...]
    has_certificate: bool
    floor: Floor | None
    allow_below_floor: bool


# -- the data center ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """A certificate, as `ca_authority` takes it."""

    name: str
    names: tuple[str, ...]
    usage: tuple[str, ...]


@dataclass(frozen=True)
class Certifiable:
    """What the data center may certify beside its own domain and subnet, since its inventory has it in `bcm_access`."""

    domains: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True)
class OnionPort:
    port: int
    targets: tuple[str, ...]


@dataclass(frozen=True)
class PublishedOnion:
    """An onion service, as `onion_service` takes it."""

    name: str
    ports: tuple[OnionPort, ...]
    authorization: bool
    pow: bool
    intro_defense: bool
    max_streams: int


@dataclass(frozen=True)
class Onions:
    """The onion services that are to be, their gateway if it runs, and the names of those that have addresses."""

    gateway: str | None
    services: tuple[PublishedOnion, ...]
    known: tuple[str, ...]


@dataclass(frozen=True)
class TakenSource:
    """Which source of a stack that has several is taken, and why."""

    stack: str
    source: str
    why: str


@dataclass(frozen=True)
class Moves:
    """What brings volumes to another storage pool: the instances that are stopped before, and the copies."""

    instances: tuple[Resource, ...] = ()
    volumes: tuple[Resource, ...] = ()


@dataclass(frozen=True)
class DownloadProxy:
    """What has to be there before images are made that are fetched through it."""

    stack: str
    stacks: tuple[str, ...]
    resources: tuple[Resource, ...]


@dataclass(frozen=True)
class Plan:
    datacenter: str
    chain: str
    state: str
    project: str
    domain: str
    ca_provider: str
    vault_id: str | None
    storage_pool: str
    network: Subnet
    uplink: Subnet
    builders: Subnet
    requested: tuple[str, ...]
    stacks: tuple[str, ...]
    exceptions: tuple[AllowedDestination, ...]
    through_tor: tuple[AskedHost, ...]
    instances: Mapping[str, Instance]
    onions: Onions
    resources: tuple[Resource, ...]
    warnings: tuple[str, ...]
    #: all stacks that are there afterwards, and those of them that are told the report
    summary: tuple[StackSummary, ...]
    reporters: tuple[Reporter, ...]
    # none of these for what is stopped or removed
    images: tuple[Image, ...] = ()
    secrets: tuple[str, ...] = ()
    #: those that were made before
    known_secrets: tuple[str, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    certifiable: Certifiable = Certifiable()
    builder_resources: tuple[Resource, ...] = ()
    sources: tuple[TakenSource, ...] = ()
    moves: Moves = Moves()
    #: whether an instance needs other steps than those that all have
    has_own_steps: bool = False
    download_proxy: DownloadProxy | None = None
    #: the member of a cluster that has the instances and volumes
    host: str | None = None
