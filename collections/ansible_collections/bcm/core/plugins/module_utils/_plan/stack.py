# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack: what its ``meta/stack.yml`` says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._artifact.declaration import Release, release
from .._base import names, versions
from .._base.errors import BcmError
from .._base.fields import Field
from .event_schemas import Schema
from .limits import KINDS


@dataclass(frozen=True)
class Onion:
    """How a service is reached from outside, at an onion address of its own."""

    port: int | None  # at the address; that of the service if None
    listen: int | None  # where tor's connections come in; as those of all others if None
    public: str | None  # why everybody may come
    when: str | None  # a Jinja condition
    pow: bool
    intro_defense: bool
    max_streams: int


#: values of `tls` with which a proxy speaks it, and the program listens behind that
PROXIED = ("server", "mutual")


@dataclass(frozen=True)
class Service:
    protocol: str
    ports: Mapping[str, int]  # chain -> port
    tls: str | None
    host_port: bool  # whether a port of the host may lead to it
    onion: Onion | None
    grpc: bool = False  # whether it speaks gRPC, and TLS of its own behind the proxy
    when: str | None = None  # a Jinja condition; there always if there is none

    @property
    def is_proxied(self) -> bool:
        """Whether a proxy in its instance speaks TLS for it."""
        return self.tls in PROXIED


@dataclass(frozen=True)
class Need:
    """What a stack uses of another one."""

    services: tuple[str, ...]
    permissions: Mapping[str, Any]  # as the role of the other stack takes them
    optional: bool = False  # whether it can do without, if the other stack is not there
    when: str | None = None  # a Jinja condition; needed always if there is none


@dataclass(frozen=True)
class AskedOutside:
    """What a stack asks of others, or tells them, through Tor."""

    variable: str  # which has the names or addresses of the hosts
    why: str
    hosts: tuple[str, ...] = ()  # what the variable says


@dataclass(frozen=True)
class WebPage:
    """A way in for browsers."""

    service: str
    path: str
    title: str
    icon: str | None  # a file of the role

    def url(self, address: str, tls: str | None) -> str:
        """Return its URL, where its service answers at an address, with a port."""
        return f"{'https' if tls else 'http'}://{address}{self.path}"


@dataclass(frozen=True)
class Volume:
    path: str
    sizes: Mapping[str, str]  # chain or "default" -> size
    backup: str

    def size(self, chain: str) -> str:
        return self.sizes.get(chain) or self.sizes["default"]


@dataclass(frozen=True)
class Assertion:
    """A condition that has to hold, and the message if it does not, which may be a template."""

    that: str
    fail_msg: str


@dataclass(frozen=True)
class Floor:
    versions: tuple[str, ...]
    why: str

    def fault(self, name: str, version: str) -> str | None:
        """Return the fault of a version as a sentence, or None. Raises BcmError if it is not a version."""
        if versions.satisfies(version, {"versions": self.versions}):
            return None
        return f"{name} {version} is below the floor ({', '.join(self.versions)}): {self.why}"


@dataclass(frozen=True)
class Artifact:
    """What a stack is made of: the first of its sources, unless the variable ``<stack>_source`` names others.

    If ``of`` names the stack that declares it, the catalogue takes all else from there.
    """

    of: str | None
    keys_path: Path  # the folder of the signers' keys
    version_command: tuple[str, ...]
    floor: Floor | None
    sources: Mapping[str, Field]
    forward_only: str | None = None  # why no version may run that is older than one that has run

    def check_forward(self, release: Release, former: str | None) -> None:
        """Refuse a version that is older than the former one, if it could not read what that wrote. Raises BcmError."""
        if not (self.forward_only and release.version and former):
            return
        if not versions.satisfies(release.version, {"versions": (former,)}):
            raise BcmError(
                f"Version {release.version} of {release.name}",
                f"is older than {former}, which has run here: {self.forward_only}",
                f"nothing was changed; choose {former} or a newer one",
                code="data_at_risk",
            )

    def preferred(self, stack: str, value: Any, changes: Mapping[str, Any]) -> tuple[str, ...]:
        """The sources that a value of ``<stack>_source`` names, a name or a list, the best first. Raises BcmError.

        What an inventory changes of an artifact is the first one's, and then there is no other.
        """
        named = value if isinstance(value, list) else [next(iter(self.sources)) if value in (None, "") else value]
        if not named or not all(isinstance(source, str) for source in named) or len(set(named)) < len(named):
            raise BcmError(
                f"Variable {names.variable_prefix(stack)}_source",
                f"is {value}",
                f"write one of {', '.join(self.sources)}, or a list of them, each once and the best first",
                code="invalid_value",
            )
        for source in named:
            if source not in self.sources:
                raise names.unknown(f"source of {stack}", source, self.sources)
        return tuple(named[:1] if changes else named)

    def release(
        self, stack: str, source: str | None, changes: Mapping[str, Any], allow_below_floor: bool = False
    ) -> Release:
        """The release of a source, with what an inventory changes of it. Raises BcmError."""
        source = source or next(iter(self.sources))
        if source not in self.sources:
            raise names.unknown(f"source of {stack}", source, self.sources)
        field = self.sources[source]
        if changes:
            field = Field(Path("the inventory"), f"bcm_artifacts.{stack}", {**field.value, **changes})
        found = release(field, stack, source)
        if found.repository and self.floor and not allow_below_floor:
            found = replace(found, repository=replace(found.repository, floor=self.floor.versions))
        return found


@dataclass(frozen=True)
class Stack:
    """What one stack.yml says, and where its role is."""

    name: str
    source: Path
    role: str
    role_path: Path
    description: str
    tier: str
    chains: tuple[str, ...]
    needs: Mapping[str, Need]  # by stack
    alternatives: Mapping[str, Mapping[str, Need]]  # name -> stacks of which one is needed, the default first
    through_tor: tuple[AskedOutside, ...]  # without any host, it does not reach the proxy
    choices: Mapping[str, str]  # name of alternatives -> the stack that was chosen of them, which `needs` has
    enabled_with: Mapping[str, str]  # stack of `needs` -> condition under which a plan with it has this one, too
    services: Mapping[str, Service]
    disabled: Mapping[str, str]  # service that is not there -> the condition that does not hold
    web: tuple[WebPage, ...]
    volumes: Mapping[str, Volume]
    limits: Mapping[str, Mapping[str, str | int]]  # as `limits.read` has them
    secrets: tuple[str, ...]
    uplink: str | None  # the user whose packets may leave
    onion_gateway: bool
    download_proxy: Mapping[str, str]  # socks (SOCKS5) and tunnel (HTTP CONNECT) -> service; empty if it is none
    assertions: tuple[Assertion, ...]
    artifact: Artifact
    image_variables: tuple[str, ...]
    display: bool
    unmaintained: str  # since when nobody maintains it
    events: Mapping[str, tuple[Schema, ...]]  # topic -> versions of the schema of its events, the newest last
    collects: tuple[str, ...]  # stacks whose events it writes in their place
    reads_journals: bool  # whether it may read the journals of all instances
    makes_credentials: bool  # whether its program makes the credentials of its consumers, and no secret is shared

    @property
    def user(self) -> str:
        """The user it runs as in its instance."""
        return self.uplink or self.name

    @property
    def own_steps(self) -> tuple[str, ...]:
        """Which of configure and verify its role has tasks for."""
        return tuple(step for step in ("configure", "verify") if (self.role_path / f"tasks/{step}.yml").is_file())

    @property
    def report_program(self) -> Path | None:
        """The program that is told the report of each run, if it has one."""
        path = self.role_path / "scripts/report.py"
        return path if path.is_file() else None

    @property
    def prefix(self) -> str:
        """What the names of its variables begin with."""
        return names.variable_prefix(self.name)

    @property
    def derived_variables(self) -> set[str]:
        """The names of its variables that the plan itself reads."""
        ends = {
            "source",
            *(end for _default, end in KINDS.values()),
            *(f"{name}_{end}" for name in self.volumes for end in ("size", "pool")),
            *(f"{name}_host_port" for name, service in self.services.items() if service.host_port),
            *self.alternatives,
        }
        return {*(f"{self.prefix}_{end}" for end in ends), *self.image_variables}

    @property
    def is_undecided(self) -> bool:
        """Whether variables decide about what it needs or offers."""
        conditions = [need.when for need in self.needs.values()] + [item.when for item in self.services.values()]
        return bool(self.alternatives or self.through_tor) or any(conditions)

    def declared_needs(self) -> Iterator[tuple[str, str, Need]]:
        """All that it needs with one choice or another: the field that says so, the stack, and what of it."""
        chosen = self.choices.values()
        yield from ((f"needs.{stack}", stack, need) for stack, need in self.needs.items() if stack not in chosen)
        for name, group in self.alternatives.items():
            yield from ((f"needs.{name}.one_of.{stack}", stack, need) for stack, need in group.items())

    @property
    def required(self) -> list[str]:
        """The stacks that it cannot do without."""
        return [stack for stack, need in self.needs.items() if not need.optional]


def changes_of(stack: str, declared: Any) -> Mapping[str, Any]:
    """What the variable ``bcm_artifacts`` changes of a stack's artifact. Raises BcmError."""
    every = declared or {}
    if not isinstance(every, Mapping):
        raise BcmError(
            "Variable bcm_artifacts",
            "is not a mapping",
            "write stacks, and below each what is to be different",
            code="invalid_value",
        )
    own = every.get(stack, {})
    if not isinstance(own, Mapping):
        raise BcmError(
            f"Variable bcm_artifacts.{stack}",
            "is not a mapping",
            "write what is to be different below it",
            code="invalid_value",
        )
    return own
