# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``meta/stack.yml``: the table of its fields, which reads it, makes its JSON Schema, and fills docs/stacks.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .._artifact.declaration import SOURCE
from .._base import names
from .._base.fields import CatalogueError, Field
from .._base.read import is_integer, read_yaml
from .._base.schema import (
    FOLDER_PATH,
    PART,
    PORT,
    ROLE_FILE_PATH,
    SIZE_TEXT,
    USER_NAME,
    VARIABLE_NAME,
    VERSION,
    Anything,
    Choice,
    Either,
    Flag,
    JsonSchema,
    Key,
    ListOf,
    MapOf,
    Number,
    Record,
    Text,
    Type,
    With,
)
from . import event_schemas, limits
from .stack import PROXIED, Artifact, AskedOutside, Assertion, Floor, Need, Onion, Service, Stack, Volume, WebPage

SCHEMA = 1
TIERS = ("underlay", "kafka", "bitcoin", "lightning", "web", "desktop")
#: nginx in front of the program shows a certificate, or it and the client each show one; or the program shows it itself
TLS = (*PROXIED, "own")
FILE = Path("meta/stack.yml")
#: the program of a role that makes the credentials of those that use its services
_CREDENTIALS = Path("scripts/credentials.py")

_WEB_PATH = re.compile(r"/[A-Za-z0-9_.~/?&=%+-]{0,199}")
_TEXT = Text()


@dataclass(frozen=True)
class _SchemaNumber:
    """The number of this schema."""

    def read(self, field: Field) -> int:
        if not is_integer(field.value) or field.value != SCHEMA:
            field.wrong(f"is {field.shown}", f"this version reads schema {SCHEMA}")
        return SCHEMA

    def schema(self) -> JsonSchema:
        return {"const": SCHEMA}


@dataclass(frozen=True)
class ByChain:
    """One value for all chains, which counts as that of "default", or one for each, with or without a default."""

    value: Type
    chains: tuple[str, ...]

    def read(self, field: Field) -> dict[str, Any]:
        if not isinstance(field.value, dict):
            return {"default": self.value.read(field)}
        entries = field.mapping(optional=(*self.chains, "default"))
        if "default" not in entries and set(entries) != set(self.chains):
            field.wrong("leaves out chains", "add default")
        return {chain: self.value.read(entry) for chain, entry in entries.items()}

    def schema(self) -> JsonSchema:
        return {"anyOf": [self.value.schema(), _for_chains(self.value, (*self.chains, "default"))]}


@dataclass(frozen=True)
class EachChain:
    """A value for each chain."""

    value: Type
    chains: tuple[str, ...]

    def read(self, field: Field) -> dict[str, Any]:
        return {chain: self.value.read(entry) for chain, entry in field.mapping(required=self.chains).items()}

    def schema(self) -> JsonSchema:
        return _for_chains(self.value, self.chains)


def _for_chains(value: Type, chains: tuple[str, ...]) -> JsonSchema:
    properties = {chain: value.schema() for chain in chains}
    return {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}


@lru_cache
def stack_type(chains: tuple[str, ...] = tuple(names.CHAINS)) -> Record:
    """The fields of a stack that can run on these chains."""
    of_need = {
        "services": Key(ListOf(_TEXT), "The services of it that are used. The network lets the stack reach no others."),
        "permissions": Key(Anything(), "What the stack may do there, as the README of the other role says."),
        "optional": Key(Flag(), "Use it if it is there, and do without it if not."),
    }
    services_alone = ListOf(_TEXT, build=lambda _field, services: Need(services, {}))
    when = Key(_TEXT, "A condition without which the stack does not use it.")
    one_need = Either(services_alone, Record({**of_need, "when": when}, _need))
    alternatives = Record(
        {
            "one_of": Key(
                MapOf(
                    Either(services_alone, Record(of_need, _need)),
                    least=2,
                    empty=("names no alternative", "name at least two stacks"),
                ),
                "Stacks of which one is needed: the first, unless the variable `<stack>_<name>` names another one.",
                required=True,
            ),
            "optional": Key(Flag(), "Use the chosen one if it is there, and do without it if not."),
        },
        _alternatives,
    )
    onion = Record(
        {
            "port": Key(PORT, "The port at the onion address; that of the service if it is left out."),
            "listen": Key(PORT, "The port of the instance where these connections come in, without TLS."),
            "public": Key(_TEXT, "Why no key is needed. Without it, only clients with a key get in."),
            "when": Key(_TEXT, "A condition under which there is this onion service."),
            "pow": Key(Flag(), "Ask clients for proof of work under load."),
            "intro_defense": Key(Flag(), "Limit the rate of introductions."),
            "max_streams": Key(Number(0, 65535), "The most streams of one circuit; 0 for no limit."),
        },
        lambda _field, values: Onion(
            **{key: values.get(key) for key in ("port", "listen", "public", "when")},
            pow=values.get("pow", False),
            intro_defense=values.get("intro_defense", False),
            max_streams=values.get("max_streams", 0),
        ),
    )
    service = Record(
        {
            "protocol": Key(Choice(("tcp", "udp")), "The protocol.", required=True),
            "port": Key(PORT, "The port, the same on all chains."),
            "ports": Key(EachChain(PORT, chains), "Or a port for each chain."),
            "tls": Key(
                Choice(TLS),
                "Put it behind TLS; `mutual` refuses clients without a certificate. `own` if the program speaks TLS "
                "itself.",
            ),
            "host_port": Key(Flag(), "Let a port of the host lead to it; needs `uplink`."),
            "onion": Key(onion, "Give it an onion address."),
            "grpc": Key(
                Flag(),
                "It speaks gRPC, and TLS of its own behind `tls: mutual`: the proxy shows it the stack's certificate.",
            ),
            "when": Key(_TEXT, "A condition under which there is this service."),
        },
        lambda field, values: _service(field, values, chains),
        {"oneOf": [{"required": ["port"]}, {"required": ["ports"]}]},
    )
    page = Record(
        {
            "service": Key(_TEXT, "The service that browsers reach.", required=True),
            "path": Key(Text(_WEB_PATH, "write a path, such as /"), "The path of the page; `/` if it is left out."),
            "title": Key(_TEXT, "What the page is called.", required=True),
            "icon": Key(ROLE_FILE_PATH, "A file of the role."),
        },
        lambda _field, values: WebPage(values["service"], values.get("path", "/"), values["title"], values.get("icon")),
    )
    volume = Record(
        {
            "path": Key(FOLDER_PATH, "Where it is mounted.", required=True),
            "size": Key(
                ByChain(SIZE_TEXT, chains),
                "Its size, for all chains or for each; `<stack>_<volume>_size` overrides it. `<stack>_<volume>_pool` "
                "puts it into another storage pool than `bcm_storage_pool`.",
                required=True,
            ),
            "backup": Key(
                _TEXT,
                "What a backup of it has to hold, in words; `none`, the default, if it can be made again. It is shown "
                "before the volume is deleted.",
            ),
        },
        lambda _field, values: Volume(values["path"], values["size"], values.get("backup", "none")),
    )
    asked = Record(
        {
            "to": Key(VARIABLE_NAME, "The variable with the hosts that it asks.", required=True),
            "why": Key(_TEXT, "What for.", required=True),
        },
        lambda _field, values: AskedOutside(values["to"], values["why"]),
    )
    limit = {
        "memory": "Memory; 1GiB if it is left out; `<stack>_memory` overrides it.",
        "processors": "Processors; 2 if it is left out; `<stack>_processors`.",
        "processes": "Processes and threads; 500 if it is left out; `<stack>_processes`.",
        "root": "The root disk, with /var/tmp and the journal; 4GiB if it is left out; `<stack>_root_size`.",
    }
    assertion = Record(
        {
            "that": Key(_TEXT, "A Jinja condition.", required=True),
            "fail_msg": Key(
                _TEXT, "What is wrong if it does not hold, and what to do. It may be a template.", required=True
            ),
        },
        lambda _field, values: Assertion(**values),
    )
    return Record(
        {
            "schema": Key(_SchemaNumber(), "The number of the schema.", required=True),
            "description": Key(_TEXT, "What the stack is, on one line.", required=True),
            "tier": Key(Choice(TIERS), "Groups stacks for reading.", required=True),
            "chains": Key(
                ListOf(Choice(tuple(names.CHAINS)), least=1), "The chains on which it can run.", required=True
            ),
            "artifact": Key(_artifact_type(), "What is installed.", required=True),
            "needs": Key(
                MapOf(With("one_of", alternatives, one_need)),
                "The stacks it uses: a list of their services, or a mapping; or a name for alternatives.",
            ),
            "through_tor": Key(
                ListOf(asked),
                "Exceptions that an inventory makes: hosts that it asks through Tor. As long as there is none, it does "
                "not reach tor's proxy.",
            ),
            "enabled_with": Key(
                MapOf(_TEXT), "Stacks of `needs`, and a condition under which a run with that one has this one, too."
            ),
            "services": Key(MapOf(service, PART), "What it offers."),
            "web": Key(ListOf(page), "Its pages for browsers. With `tls`, they load nothing from elsewhere."),
            "volumes": Key(
                MapOf(volume, PART), "Where its data lives. Everything else is lost when the image changes."
            ),
            "limits": Key(
                Record(
                    {kind: Key(ByChain(limits.TYPES[kind], chains), text) for kind, text in limit.items()},
                    lambda _field, values: values,
                ),
                "How much of the host it may take.",
            ),
            "secrets": Key(ListOf(PART), "Secrets of its own, made once: `bcm_secrets['<stack>/<secret>']`."),
            "uplink": Key(
                Record({"user": Key(USER_NAME, "The user whose TCP packets may leave.", required=True)}),
                "A second network, with a way out for one user.",
            ),
            "onion_gateway": Key(Flag(), "Its tor has the onion services of all stacks. Only tor sets it."),
            "download_proxy": Key(
                Record(
                    {
                        "socks": Key(_TEXT, "Its service that speaks SOCKS.", required=True),
                        "tunnel": Key(_TEXT, "Its service that speaks HTTP CONNECT.", required=True),
                    }
                ),
                "Downloads for images of other stacks come through it. Only tor sets it.",
            ),
            "assertions": Key(
                ListOf(assertion),
                "Conditions that have to hold. The first that does not ends the run with its message.",
            ),
            "image": Key(
                Record({"variables": Key(ListOf(VARIABLE_NAME), "Variables of the role that decide what is in it.")}),
                "How the image is made.",
            ),
            "collects": Key(
                ListOf(_TEXT), "Stacks of `needs` whose events it writes in their place; see [Events](#events)."
            ),
            "reads_journals": Key(Flag(), "It reads the journals of all instances. Only the collector sets it."),
            "display": Key(Flag(), "`bcm open` can show a window of it."),
            "unmaintained": Key(_TEXT, "Since when nobody maintains it; each run with it warns of that."),
        }
    )


def _artifact_type() -> Record:
    known = Record(
        {
            "versions": Key(
                ListOf(VERSION, least=1), "The lowest versions without known faults, one for each line.", required=True
            ),
            "why": Key(_TEXT, "What is wrong with lower ones.", required=True),
        },
        lambda _field, values: Floor(**values),
    )
    unknown = Record({"none": Key(_TEXT, "Why no floor is known.", required=True)}, lambda _field, _values: None)
    return Record(
        {
            "of": Key(_TEXT, "The stack that declares it, in place of all other fields here."),
            "sources": Key(
                MapOf(SOURCE, least=1, empty=("is empty", "say where it comes from, such as debian: {kind: deb, ...}")),
                "Where it comes from: the first, unless the variable `<stack>_source` names others. Needed without "
                "`of`.",
            ),
            "version_command": Key(
                ListOf(_TEXT, least=1, repeated=True), "A command that says the version of what was installed."
            ),
            "floor": Key(
                With("none", unknown, known), "Versions below which there are known faults, or why none is known."
            ),
            "forward_only": Key(_TEXT, "Why no version may run that is older than one that ran."),
        },
        _artifact,
        {"oneOf": [{"required": ["sources"]}, {"required": ["of"]}], "dependentSchemas": {"of": {"maxProperties": 1}}},
    )


def json_schema() -> JsonSchema:
    """JSON Schema of a stack.yml, for editors. What no schema can say, the plan alone refuses."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "meta/stack.yml of Bitcoin Cache Machine",
        **stack_type().schema(),
    }


# -- what no type can see ----------------------------------------------------------------------------------------------


def _need(_field: Field, values: dict[str, Any]) -> Need:
    return Need(
        values.get("services", ()), values.get("permissions", {}), values.get("optional", False), values.get("when")
    )


def _alternatives(field: Field, values: dict[str, Any]) -> dict[str, Need]:
    fault = names.part_fault(field.path.rpartition(".")[2])
    if fault:
        field.wrong("cannot be called that", fault)
    optional = values.get("optional", False)
    return {
        other: Need(need.services, need.permissions, need.optional or optional)
        for other, need in values["one_of"].items()
    }


def _service(field: Field, values: dict[str, Any], chains: tuple[str, ...]) -> Service:
    protocol, tls, onion = values["protocol"], values.get("tls"), values.get("onion")
    host_port, grpc = values.get("host_port", False), values.get("grpc", False)
    if grpc and tls != "mutual":
        field.sub("grpc", grpc).wrong("is True, but tls is not mutual", "leave it out, or write tls: mutual")
    if tls and protocol != "tcp":
        field.sub("tls", tls).wrong(f'is "{tls}", but the protocol is {protocol}', "leave it out, or write tcp")
    if tls and host_port:
        field.sub("host_port", True).wrong("is True, but there is tls", "leave one of them out")
    if ("port" in values) == ("ports" in values):
        field.wrong("needs either port or ports", "give one port for all chains, or ports with one for each chain")
    if onion and protocol != "tcp":
        field.sub("onion", onion).wrong(
            f"belongs to a service whose protocol is {protocol}", "leave it out, Tor carries tcp alone"
        )
    if onion and onion.listen and tls == "mutual":
        field.sub("onion.listen", onion.listen).wrong(
            "lets in clients without a certificate", "leave it out, or write tls: server"
        )
    ports = values["ports"] if "ports" in values else dict.fromkeys(chains, values["port"])
    return Service(protocol, ports, tls, host_port, onion, grpc, values.get("when"))


def _artifact(field: Field, values: dict[str, Any]) -> Artifact:
    entries, of = field.entries(), values.get("of")
    if of:
        for other in (entry for key, entry in entries.items() if key != "of"):
            other.wrong(f"is there, but the artifact is that of {of}", "leave one of them out")
    elif "sources" not in values:
        field.wrong("needs either sources or of", "say where it comes from, or name the stack that does")
    floor, command = values.get("floor"), values.get("version_command", ())
    if floor and not command and not all(found.version for found in values["sources"].values()):
        field.sub("floor", floor).wrong(
            "has nothing to compare with", "add version_command, or a version to each source"
        )
    sources = entries["sources"].entries() if "sources" in entries else {}
    return Artifact(
        of=of,
        keys_path=field.source.parent / "keys",
        version_command=command,
        floor=floor,
        sources=sources,
        forward_only=values.get("forward_only"),
    )


def _check_services(top: Field, services: Mapping[str, Service], values: Mapping[str, Any]) -> None:
    """Refuse services that there are not, and ports that are taken."""
    for key, service in services.items():
        listen = service.onion.listen if service.onion else None
        other = next((other for other, found in services.items() if listen in found.ports.values()), None)
        if listen and other:
            where = top.sub(f"services.{key}.onion.listen", listen)
            where.wrong(f"is {listen}, a port of {other}", "choose another port")
    for key, name in values.get("download_proxy", {}).items():
        top.sub(f"download_proxy.{key}", name).choice(services)
    for index, page in enumerate(values.get("web", ())):
        where = top.sub(f"web.{index}.service", page.service)
        if services[where.choice(services)].protocol != "tcp":
            where.wrong(f"is {page.service}, which does not speak tcp", "name a service that browsers can reach")


# -- files -------------------------------------------------------------------------------------------------------------


def read(folder: Path, role: str) -> Stack:
    """The stack of a role's folder. Raises CatalogueError."""
    source = folder / FILE
    try:
        document = read_yaml(source.read_bytes())
    except OSError as error:
        raise CatalogueError(source, f"cannot be read: {error.strerror}", code="io_error") from error
    except ValueError as error:  # also dates that are none
        raise CatalogueError(source, f"is not valid YAML: {' '.join(str(error).split())}") from error
    if "-" in folder.name:
        raise CatalogueError(
            f"{folder}:",
            f"the folder's name \"{folder.name}\" cannot be a role's",
            f"rename it to {folder.name.replace('-', '_')}; the stack is called {folder.name} then",
        )
    return parse(document, names.stack_of(folder.name), source, role, folder)


def parse(document: Any, name: str, source: Path, role: str, role_path: Path) -> Stack:
    """The stack that a parsed stack.yml describes. Raises CatalogueError, which names the file and the field."""
    fault = names.stack_fault(name)
    if fault:
        raise CatalogueError(f"{role_path}:", f"the folder's name \"{role_path.name}\" cannot be a stack's: {fault}")
    top = Field(source, "", document)
    values = stack_type(_chains(document)).read(top)
    services, needs = values.get("services", {}), values.get("needs", {})
    _check_services(top, services, values)
    declared = {stack for key, need in needs.items() for stack in ((key,) if isinstance(need, Need) else need)}
    for other in values.get("collects", ()):
        if other not in declared:
            raise CatalogueError(f"{source}:", f"collects {other}, which is not needed", "add it to needs")
    return Stack(
        name=name,
        source=source,
        role=role,
        role_path=role_path,
        description=values["description"],
        tier=values["tier"],
        chains=values["chains"],
        needs={other: need for other, need in needs.items() if isinstance(need, Need)},
        alternatives={key: group for key, group in needs.items() if not isinstance(group, Need)},
        choices={},
        through_tor=values.get("through_tor", ()),
        enabled_with=values.get("enabled_with", {}),
        services=services,
        disabled={},
        web=values.get("web", ()),
        volumes=values.get("volumes", {}),
        limits=limits.declared_limits(values.get("limits", {})),
        secrets=values.get("secrets", ()),
        uplink=values["uplink"]["user"] if "uplink" in values else None,
        onion_gateway=values.get("onion_gateway", False),
        download_proxy=values.get("download_proxy", {}),
        assertions=values.get("assertions", ()),
        artifact=values["artifact"],
        image_variables=values.get("image", {}).get("variables", ()),
        display=values.get("display", False),
        unmaintained=values.get("unmaintained", ""),
        events=event_schemas.read(role_path, name),
        collects=values.get("collects", ()),
        reads_journals=values.get("reads_journals", False),
        makes_credentials=(role_path / _CREDENTIALS).is_file(),
    )


def _chains(document: Any) -> tuple[str, ...]:
    """The chains of a stack, as far as they can be read; the table says what is wrong with them."""
    given = document.get("chains") if isinstance(document, dict) else None
    known = (
        [item for item in given if isinstance(item, str) and item in names.CHAINS] if isinstance(given, list) else []
    )
    return tuple(dict.fromkeys(known)) or tuple(names.CHAINS)
