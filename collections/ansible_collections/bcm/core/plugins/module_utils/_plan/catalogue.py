# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue: which stacks there are, read from ``meta/stack.yml`` of each role; docs/stacks.md has the schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._artifact.declaration import Release, release
from .._base import names, versions
from .._base.errors import BcmError
from .._base.fields import CatalogueError, Field
from .._base.read import is_integer
from . import limits

try:
    import yaml
except ImportError:  # ansible-core brings it; only the sanity tests import this file without
    yaml = None  # type: ignore[assignment]

#: the collection's own roles
ROLES = Path(__file__).resolve().parents[3] / "roles"
SCHEMA = 1
TIERS = ("underlay", "kafka", "bitcoin", "lightning", "web", "desktop")
#: who shows a certificate to whom: the server to the client, or each to the other
TLS = ("server", "mutual")

REQUIRED = ("schema", "description", "tier", "chains", "artifact")
OPTIONAL = (
    "needs",
    "enabled_with",
    "services",
    "web",
    "volumes",
    "limits",
    "secrets",
    "uplink",
    "onion_gateway",
    "download_proxy",
    "assertions",
    "image",
    "display",
)

_FILE = Path("meta/stack.yml")
_WEB_PATH = re.compile(r"/[A-Za-z0-9_.~/?&=%+-]{0,199}")
_ROLE_FILE = re.compile(r"files/([A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*")


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


@dataclass(frozen=True)
class Service:
    protocol: str
    ports: Mapping[str, int]  # chain -> port
    tls: str | None
    host_port: bool  # whether a port of the host may lead to it
    onion: Onion | None


@dataclass(frozen=True)
class Need:
    """What a stack uses of another one."""

    services: tuple[str, ...]
    permissions: Mapping[str, Any]  # as the role of the other stack takes them
    optional: bool = False  # whether it can do without, if the other stack is not there


@dataclass(frozen=True)
class WebPage:
    """A way in for browsers."""

    service: str
    path: str
    title: str
    icon: str | None  # a file of the role


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
        """What is wrong with a version, for people; None if nothing. Raises BcmError if it is none."""
        if versions.satisfies(version, {"versions": self.versions}):
            return None
        return f"{name} {version} is below the floor ({', '.join(self.versions)}): {self.why}"


@dataclass(frozen=True)
class Artifact:
    """What a stack is made of: the first of its sources, unless the variable ``<stack>_source`` names others."""

    version_command: tuple[str, ...]
    floor: Floor | None
    sources: Mapping[str, Field]

    def preferred(self, stack: str, value: Any, changes: Mapping[str, Any]) -> tuple[str, ...]:
        """The sources that a value of ``<stack>_source`` names, a name or a list, the best first. Raises BcmError.

        What an inventory changes of an artifact is the first one's, and then there is no other.
        """
        named = value if isinstance(value, list) else [next(iter(self.sources)) if value in (None, "") else value]
        if not named or not all(isinstance(source, str) for source in named) or len(set(named)) < len(named):
            raise BcmError(
                f"Variable {names.variable_prefix(stack)}_source is {value}: write one of {', '.join(self.sources)}, "
                "or a list of them, each once and the best first"
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
    choices: Mapping[str, str]  # name of alternatives -> the stack that was chosen of them, which `needs` has
    enabled_with: Mapping[str, str]  # stack of `needs` -> condition under which a plan with it has this one, too
    services: Mapping[str, Service]
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

    @property
    def prefix(self) -> str:
        """What the names of its variables begin with."""
        return names.variable_prefix(self.name)

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
        raise BcmError("Variable bcm_artifacts is no mapping: write stacks, and below each what is to be different")
    own = every.get(stack, {})
    if not isinstance(own, Mapping):
        raise BcmError(f"Variable bcm_artifacts.{stack} is no mapping: write what is to be different below it")
    return own


class Catalogue(Mapping[str, Stack]):
    """All stacks by name, in the order of their names, and what follows from what they need."""

    def __init__(self, stacks: Iterable[Stack]) -> None:
        self._stacks: dict[str, Stack] = {}
        for stack in sorted(stacks, key=lambda stack: stack.name):
            twin = self._stacks.get(stack.name)
            if twin is not None:
                raise CatalogueError(
                    f'Two folders define the stack "{stack.name}": {twin.role_path} and {stack.role_path}; rename one'
                )
            self._stacks[stack.name] = stack
        self.onion_gateway = self._only("onion_gateway", "is the gateway of onion services")
        self.download_proxy = self._only("download_proxy", "is the proxy of downloads")
        self._check_names()
        for stack in self._stacks.values():
            self._check_needs(stack)
            self._check_onions(stack)
        self._order = self._sorted()

    @classmethod
    def read(cls, stack_path: Sequence[str | Path] = (), roles: Path | None = None) -> Catalogue:
        """The collection's stacks and those in the folders of ``stack_path``. Raises CatalogueError."""
        found = [_read(folder, f"bcm.core.{folder.name}") for folder in _folders(roles or ROLES)]
        for entry in stack_path:
            path = Path(entry).expanduser().absolute()
            if not path.is_dir():
                raise CatalogueError(f"{path} in bcm_stack_path is no directory: make it, or take it out of the list")
            found += [_read(folder, str(folder)) for folder in _folders(path)]
        return cls(found)

    def __getitem__(self, name: str) -> Stack:
        return self._stacks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stacks)

    def __len__(self) -> int:
        return len(self._stacks)

    def resolved(self, choice: Callable[[Stack, str], Any]) -> Catalogue:
        """The catalogue in which of all alternatives one is needed: the one that the variable ``choice`` reads names.

        Raises BcmError for a value that is none of them.
        """
        if not any(stack.alternatives for stack in self.values()):
            return self
        return Catalogue(_resolved(stack, choice) for stack in self.values())

    def named(self, name: str) -> Stack:
        """The stack of that name. Raises BcmError, with the nearest name, if there is none."""
        if name not in self._stacks:
            raise names.unknown("stack", name, self._stacks)
        return self._stacks[name]

    def ordered(self, chosen: Iterable[str]) -> list[str]:
        """The names in order of need: what a stack needs comes before it."""
        return sorted(set(chosen), key=self._order.__getitem__)

    def closure(self, chosen: Iterable[str]) -> set[str]:
        """The names and all that they cannot do without, directly or not."""
        return _reach(chosen, lambda name: self._stacks[name].required)

    def dependents(self, chosen: Iterable[str]) -> set[str]:
        """The names and all that cannot do without them, directly or not."""
        return _reach(chosen, lambda name: (other for other, stack in self._stacks.items() if name in stack.required))

    def _check_names(self) -> None:
        """Refuse what two stacks would both call theirs: a volume, an onion service, a variable."""
        owners: dict[str, str] = {}
        for stack in self._stacks.values():
            for part in {*stack.services, *stack.volumes}:
                name = names.volume_name(stack.name, part)
                other = owners.setdefault(name, stack.name)
                if other != stack.name:
                    raise CatalogueError(
                        f'{stack.source}: "{part}" of {stack.name} and a part of {other} are both called "{name}": '
                        "rename one"
                    )

    def _check_needs(self, stack: Stack) -> None:
        seen: set[str] = set()
        for path, other, need in stack.declared_needs():
            where = f"{stack.source}: {path}"
            if other not in self._stacks:
                raise CatalogueError(f"{where}: {names.unknown('stack', other, self._stacks)}")
            for service in need.services:
                if service not in self._stacks[other].services:
                    known = self._stacks[other].services
                    raise CatalogueError(f"{where}: {names.unknown(f'service of {other}', service, known)}")
            if other in seen:
                raise CatalogueError(f"{where} is needed already: name it once")
            seen.add(other)
        for other in stack.enabled_with:
            if other not in stack.required:
                raise CatalogueError(f"{stack.source}: enabled_with.{other} is not needed: add {other} to needs")
        if not stack.uplink and any(service.host_port for service in stack.services.values()):
            raise CatalogueError(f"{stack.source}: host_port of a service needs uplink: add it, or leave out host_port")

    def _only(self, field: str, what: str) -> str | None:
        """The one stack that has a field, for all others."""
        found = [stack for stack in self._stacks.values() if getattr(stack, field)]
        if len(found) > 1:
            first, second = found[:2]
            raise CatalogueError(
                f"{second.source}: {field} is set, but stack {first.name} {what} already: leave it out"
            )
        return found[0].name if found else None

    def _check_onions(self, stack: Stack) -> None:
        for key, service in stack.services.items():
            if service.onion and self.onion_gateway not in stack.required:
                raise CatalogueError(
                    f"{stack.source}: services.{key}.onion has no gateway: add {self.onion_gateway}: [] to needs"
                    if self.onion_gateway
                    else f"{stack.source}: services.{key}.onion has no gateway: no stack has onion_gateway: true"
                )

    def _sorted(self) -> dict[str, int]:
        order: dict[str, int] = {}
        trail: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            if name in trail:
                circle = [*trail[trail.index(name) :], name]
                raise CatalogueError(
                    f"Stacks need each other in a circle: {' -> '.join(circle)}; "
                    f"take one of these needs out, such as needs.{name} in {self._stacks[trail[-1]].source}"
                )
            trail.append(name)
            for _path, other, _need in self._stacks[name].declared_needs():
                visit(other)
            trail.pop()
            order[name] = len(order)

        for name in self._stacks:
            visit(name)
        return order


def _resolved(stack: Stack, choice: Callable[[Stack, str], Any]) -> Stack:
    choices = {}
    for name, group in stack.alternatives.items():
        chosen = choice(stack, f"{stack.prefix}_{name}")
        choices[name] = next(iter(group)) if chosen in (None, "") else str(chosen)
        if choices[name] not in group:
            raise BcmError(f"Variable {stack.prefix}_{name}: {names.unknown('choice', choices[name], group)}")
    fixed = {other: need for other, need in stack.needs.items() if other not in stack.choices.values()}
    chosen_needs = {chosen: stack.alternatives[name][chosen] for name, chosen in choices.items()}
    return replace(stack, needs={**fixed, **chosen_needs}, choices=choices)


def _reach(start: Iterable[str], step: Any) -> set[str]:
    reached: set[str] = set()
    ahead = list(start)
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead.extend(step(name))
    return reached


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if (folder / _FILE).is_file()) if path.is_dir() else []


def _read(folder: Path, role: str) -> Stack:
    source = folder / _FILE
    try:
        # the C loader reads a catalogue ten times faster
        document = yaml.load(source.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise CatalogueError(f"{source} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # dates that are none; a list in a list in a list
        raise CatalogueError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    if "-" in folder.name:
        raise CatalogueError(
            f"{folder}: the folder's name \"{folder.name}\" cannot be a role's: rename it to "
            f"{folder.name.replace('-', '_')}; the stack is called {folder.name} then"
        )
    return parse(document, folder.name.replace("_", "-"), source, role, folder)


def parse(document: Any, name: str, source: Path, role: str, role_path: Path) -> Stack:
    """The stack that a parsed stack.yml describes. Raises CatalogueError, which names the file and the field."""
    fault = names.stack_fault(name)
    if fault:
        raise CatalogueError(f"{role_path}: the folder's name \"{role_path.name}\" cannot be a stack's: {fault}")
    top = Field(source, "", document).mapping(REQUIRED, OPTIONAL)
    if not is_integer(top["schema"].value) or top["schema"].value != SCHEMA:
        top["schema"].wrong(f"is {top['schema'].shown}", f"this version reads schema {SCHEMA}")
    chains = tuple(item.choice(names.CHAINS) for item in top["chains"].items(least=1))
    image = top["image"].mapping(optional=("variables",)) if "image" in top else {}
    services = _services(top, chains)
    needs = _entries(top, "needs")
    return Stack(
        name=name,
        source=source,
        role=role,
        role_path=role_path,
        description=top["description"].text(),
        tier=top["tier"].choice(TIERS),
        chains=chains,
        needs={other: _need(field) for other, field in needs if not _is_choice(field)},
        alternatives={key: _alternatives(field) for key, field in needs if _is_choice(field)},
        choices={},
        enabled_with={other: field.text() for other, field in _entries(top, "enabled_with")},
        services=services,
        web=tuple(_web(item, services) for item in top["web"].items()) if "web" in top else (),
        volumes={key: _volume(field, chains) for key, field in _entries(top, "volumes")},
        limits=limits.read(top.get("limits"), chains),
        secrets=tuple(_part(item) for item in top["secrets"].items()) if "secrets" in top else (),
        uplink=top["uplink"].mapping(required=("user",))["user"].user() if "uplink" in top else None,
        onion_gateway="onion_gateway" in top and top["onion_gateway"].flag(),
        download_proxy=_download_proxy(top["download_proxy"], services) if "download_proxy" in top else {},
        assertions=tuple(_assertion(item) for item in top["assertions"].items()) if "assertions" in top else (),
        artifact=_artifact(top["artifact"], name),
        image_variables=tuple(item.variable() for item in image["variables"].items()) if "variables" in image else (),
        display="display" in top and top["display"].flag(),
    )


def _entries(top: Mapping[str, Field], key: str) -> list[tuple[str, Field]]:
    if key not in top:
        return []
    entries = list(top[key].entries().items())
    for name, field in entries:
        fault = names.part_fault(name) if key not in ("needs", "enabled_with") else None
        if fault:
            field.wrong("cannot be called that", fault)
    return entries


def _services(top: Mapping[str, Field], chains: Sequence[str]) -> dict[str, Service]:
    entries = dict(_entries(top, "services"))
    services = {key: _service(field, chains) for key, field in entries.items()}
    for key, service in services.items():
        listen = service.onion.listen if service.onion else None
        other = next((other for other, found in services.items() if listen in found.ports.values()), None)
        if listen and other:
            entries[key].sub("onion.listen", listen).wrong(f"is {listen}, a port of {other}", "choose another port")
    return services


def _is_choice(field: Field) -> bool:
    return isinstance(field.value, dict) and "one_of" in field.value


def _alternatives(field: Field) -> dict[str, Need]:
    fault = names.part_fault(field.path.rpartition(".")[2])
    if fault:
        field.wrong("cannot be called that", fault)
    fields = field.mapping(required=("one_of",), optional=("optional",))
    optional = "optional" in fields and fields["optional"].flag()
    entries = fields["one_of"].entries()
    if len(entries) < 2:
        fields["one_of"].wrong("names no alternative", "name at least two stacks")
    return {other: _need(entry, optional) for other, entry in entries.items()}


def _need(field: Field, optional: bool = False) -> Need:
    """What is used of a stack: a list of its services, or a mapping that says more."""
    if not isinstance(field.value, dict):
        return Need(tuple(item.text() for item in field.items()), {}, optional)
    fields = field.mapping(optional=("services", "permissions", "optional"))
    return Need(
        services=tuple(item.text() for item in fields["services"].items()) if "services" in fields else (),
        permissions=fields["permissions"].plain() if "permissions" in fields else {},
        optional=fields["optional"].flag() if "optional" in fields else optional,
    )


def _web(field: Field, services: Mapping[str, Service]) -> WebPage:
    fields = field.mapping(required=("service", "title"), optional=("path", "icon"))
    service = fields["service"].choice(services)
    if services[service].protocol != "tcp":
        fields["service"].wrong(f"is {service}, which does not speak tcp", "name a service that browsers can reach")
    return WebPage(
        service=service,
        path=fields["path"].match(_WEB_PATH, "write a path, such as /") if "path" in fields else "/",
        title=fields["title"].text(),
        icon=fields["icon"].match(_ROLE_FILE, "write a file of the role, such as files/icon.svg")
        if "icon" in fields
        else None,
    )


def _download_proxy(field: Field, services: Mapping[str, Service]) -> dict[str, str]:
    fields = field.mapping(required=("socks", "tunnel"))
    return {key: service.choice(tuple(services)) for key, service in fields.items()}


def _part(field: Field) -> str:
    fault = names.part_fault(field.text())
    if fault:
        field.wrong(f"is {field.shown}", fault)
    return str(field.value)


def _service(field: Field, chains: Sequence[str]) -> Service:
    fields = field.mapping(required=("protocol",), optional=("port", "ports", "tls", "host_port", "onion"))
    protocol = fields["protocol"].choice(("tcp", "udp"))
    tls = fields["tls"].choice(TLS) if "tls" in fields else None
    if tls and protocol != "tcp":
        fields["tls"].wrong(f"is {fields['tls'].shown}, but the protocol is {protocol}", "leave it out, or write tcp")
    host_port = "host_port" in fields and fields["host_port"].flag()
    if tls and host_port:
        fields["host_port"].wrong("is True, but there is tls", "leave one of them out")
    if ("port" in fields) == ("ports" in fields):
        field.wrong("needs either port or ports", "give one port for all chains, or ports with one for each chain")
    onion = _onion(fields["onion"], protocol, tls) if "onion" in fields else None
    if "port" in fields:
        return Service(protocol, dict.fromkeys(chains, fields["port"].port()), tls, host_port, onion)
    ports = fields["ports"].mapping(required=chains)
    return Service(protocol, {chain: port.port() for chain, port in ports.items()}, tls, host_port, onion)


def _onion(field: Field, protocol: str, tls: str | None) -> Onion:
    optional = ("port", "listen", "public", "when", "pow", "intro_defense", "max_streams")
    fields = field.mapping(optional=optional)
    if protocol != "tcp":
        field.wrong(f"belongs to a service whose protocol is {protocol}", "leave it out, Tor carries tcp alone")
    if "listen" in fields and tls == "mutual":
        fields["listen"].wrong("lets in who shows no certificate", "leave it out, or write tls: server")
    return Onion(
        port=fields["port"].port() if "port" in fields else None,
        listen=fields["listen"].port() if "listen" in fields else None,
        public=fields["public"].text() if "public" in fields else None,
        when=fields["when"].text() if "when" in fields else None,
        pow="pow" in fields and fields["pow"].flag(),
        intro_defense="intro_defense" in fields and fields["intro_defense"].flag(),
        max_streams=fields["max_streams"].number(0, 65535) if "max_streams" in fields else 0,
    )


def _volume(field: Field, chains: Sequence[str]) -> Volume:
    fields = field.mapping(required=("path", "size"), optional=("backup",))
    path = fields["path"].folder()
    sizes = limits.by_chain(fields["size"], chains, Field.size)
    return Volume(path, sizes, fields["backup"].text() if "backup" in fields else "none")


def _assertion(field: Field) -> Assertion:
    fields = field.mapping(required=("that", "fail_msg"))
    return Assertion(that=fields["that"].text(), fail_msg=fields["fail_msg"].text())


def _floor(field: Field) -> Floor | None:
    """The floor of an artifact; None if it says why none is known."""
    if "none" in field.entries():
        field.mapping(required=("none",))["none"].text()
        return None
    parts = field.mapping(required=("versions", "why"))
    return Floor(tuple(item.version() for item in parts["versions"].items(least=1)), parts["why"].text())


def _artifact(field: Field, name: str) -> Artifact:
    fields = field.mapping(required=("sources",), optional=("version_command", "floor"))
    sources = fields["sources"].entries()
    if not sources:
        fields["sources"].wrong("is empty", "say where it comes from, such as debian: {kind: deb, ...}")
    releases = [release(source, name, key) for key, source in sources.items()]
    floor = _floor(fields["floor"]) if "floor" in fields else None
    if floor and "version_command" not in fields and not all(found.version for found in releases):
        fields["floor"].wrong("has nothing to compare with", "add version_command, or a version to each source")
    command = fields.get("version_command")
    return Artifact(
        version_command=tuple(item.text() for item in command.items(least=1, repeated=True)) if command else (),
        floor=floor,
        sources=sources,
    )
