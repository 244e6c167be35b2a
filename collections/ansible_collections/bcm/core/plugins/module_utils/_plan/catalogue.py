# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue: which stacks there are, and what follows from what they need."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from .._base import names
from .._base.errors import BcmError
from .._base.fields import CatalogueError
from . import event_schemas
from .event_schemas import Schema
from .stack import Stack
from .stack_file import FILE, read

# A name of a host in lower case, or an IPv4 address; an onion address is such a name.
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})+")
# start.yml has a play for each level.
_HIGHEST_LEVEL = 3
#: the collection's own roles
ROLES = Path(__file__).resolve().parents[3] / "roles"


class Choices(Protocol):
    """What decides about the needs of a stack: `Variables` of it."""

    def value(self, name: str) -> Any:
        """The value of a variable; None if it is not set. Raises BcmError if it cannot be templated."""

    def holds(self, condition: str) -> bool:
        """Whether a Jinja condition is true. Raises BcmError if it cannot be evaluated."""


class Catalogue(Mapping[str, Stack]):
    """All stacks by name, in the order of their names, and what follows from what they need."""

    def __init__(self, stacks: Iterable[Stack]) -> None:
        self._stacks: dict[str, Stack] = {}
        for stack in sorted(stacks, key=lambda stack: stack.name):
            other = self._stacks.get(stack.name)
            if other is not None:
                raise CatalogueError(
                    f'Two folders define the stack "{stack.name}":',
                    f"{other.role_path} and {stack.role_path};",
                    "rename one",
                )
            self._stacks[stack.name] = stack
        self._stacks = {name: self._with_artifact(stack) for name, stack in self._stacks.items()}
        self.onion_gateway = self._find_only("onion_gateway", "is the gateway of onion services")
        self.download_proxy = self._find_only("download_proxy", "is the proxy of downloads")
        self.journal_reader = self._find_only("reads_journals", "reads the journals")
        self._check_names()
        for stack in self._stacks.values():
            self._check_needs(stack)
            self._check_onions(stack)
        self._order = self._sorted()
        self._check_levels()

    @classmethod
    def read(cls, stack_path: Sequence[str | Path] = (), roles: Path | None = None) -> Catalogue:
        """The collection's stacks and those in the folders of ``stack_path``. Raises CatalogueError."""
        found = [read(folder, f"bcm.core.{folder.name}") for folder in _folders(roles or ROLES)]
        found += [read(folder, str(folder)) for folder in _own_folders(stack_path)]
        return cls(found)

    def __getitem__(self, name: str) -> Stack:
        return self._stacks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stacks)

    def __len__(self) -> int:
        return len(self._stacks)

    def resolved(self, variables_of: Callable[[Sequence[Stack]], Choices]) -> Catalogue:
        """The catalogue without needs and services whose condition does not hold, and with one of all alternatives.

        That is the one that the variable ``<stack>_<name>`` names. Raises BcmError for a value that is none of them.
        """
        undecided = [stack for stack in self.values() if stack.is_undecided]
        decided = {stack.name: self._asking(_resolved(stack, variables_of([stack]))) for stack in undecided}
        return Catalogue({**self._stacks, **decided}.values()) if decided else self

    def named(self, name: str) -> Stack:
        """The stack of that name. Raises BcmError, with the nearest name, if there is none."""
        if name not in self._stacks:
            raise names.unknown_stack(name, self._stacks)
        return self._stacks[name]

    def ordered(self, chosen: Iterable[str]) -> list[str]:
        """The names in order of need: what a stack needs comes before it."""
        return sorted(set(chosen), key=self._order.__getitem__)

    def levels(self, chosen: Iterable[str]) -> dict[str, int]:
        """In which order of levels these stacks are configured: one gets its credentials after those who make them."""
        levels: dict[str, int] = {}
        for name in self.ordered(chosen):
            makers = {credential.split("/")[0] for credential in self.credentials(name, levels)}
            before = (levels[other] + (other in makers) for other in self._stacks[name].needs if other in levels)
            levels[name] = max(before, default=0)
        return levels

    def credentials(self, name: str, chosen: Collection[str]) -> list[str]:
        """The names of the credentials that others of the given stacks make for one: <stack>/<service>/<name>."""
        return [
            f"{other}/{service}/{name}"
            for other, need in self._stacks[name].needs.items()
            if other in chosen and self._stacks[other].makes_credentials
            for service in need.services
        ]

    def events(self, name: str, chosen: Collection[str]) -> dict[str, tuple[Schema, ...]]:
        """What a stack writes if the given ones are there: the topics, and the schemas of each, the newest last.

        Those are the events of stacks that it collects, if it needs them by the variables that apply; and its own ones,
        if no other stack collects these; and what is in journals, if it reads them.
        """
        stack = self._stacks[name]
        is_collected = any(name in other.collects for other in self._stacks.values())
        collected = [other for other in stack.collects if other in chosen and other in stack.needs]
        sources = collected + [name] * (not is_collected)
        logs = self.logs(self.ordered(chosen)) if stack.reads_journals else {}
        return logs | {topic: schemas for other in sources for topic, schemas in self._stacks[other].events.items()}

    def logs(self, stacks: Iterable[str]) -> dict[str, tuple[Schema, ...]]:
        """The topics of what is in the journals of some stacks, and their schemas, the newest last."""
        return {f"{name}.{event_schemas.LOG}": event_schemas.read_logs() for name in stacks}

    def closure(self, chosen: Iterable[str]) -> set[str]:
        """The names and all that they cannot do without, directly or not."""
        return _transitive(chosen, lambda name: self._stacks[name].required)

    def dependents(self, chosen: Iterable[str]) -> set[str]:
        """The names and all that cannot do without them, directly or not."""
        return _transitive(
            chosen, lambda name: (other for other, stack in self._stacks.items() if name in stack.required)
        )

    def _with_artifact(self, stack: Stack) -> Stack:
        """The stack with the artifact that another one declares, if it says so."""
        of = stack.artifact.of
        if of is None:
            return stack
        if of not in self._stacks:
            unknown = CatalogueError.of(names.unknown("stack", of, self._stacks))
            raise unknown.within(f"{stack.source}: artifact.of")
        where, remedy = f"{stack.source}: artifact.of is {of}", "add sources here in its place"
        if of == stack.name:
            raise CatalogueError(where, "itself", f"name the stack that declares the artifact, or {remedy}")
        declared = self._stacks[of].artifact
        if declared.of is not None:
            fault = f"whose artifact is that of {declared.of}"
            raise CatalogueError(f"{where},", fault, "name a stack that has sources")
        # It lies in the role that declares it, and the image is made and named after the files of the stack's own.
        locked = next((name for name, source in declared.sources.items() if "lock" in source.value), None)
        if locked is not None:
            raise CatalogueError(f"{where},", f"whose source {locked} has a lock file in its role", remedy)
        return replace(stack, artifact=replace(declared, of=of))

    def is_proxy(self, stack: str, service: str) -> bool:
        """Whether a service is the proxy by which others are asked through Tor."""
        return stack == self.download_proxy and service == self._stacks[stack].download_proxy["socks"]

    def _asking(self, stack: Stack) -> Stack:
        """The stack, which uses the proxy if there is anybody whom it asks through Tor."""
        if not any(asked.hosts for asked in stack.through_tor):
            return stack
        proxy = str(self.download_proxy)
        services = (*stack.needs[proxy].services, self._stacks[proxy].download_proxy["socks"])
        return replace(
            stack, needs={**stack.needs, proxy: replace(stack.needs[proxy], services=tuple(dict.fromkeys(services)))}
        )

    def _check_names(self) -> None:
        """Refuse what two stacks would both call theirs: a volume, an onion service, a variable."""
        owners: dict[str, str] = {}
        for stack in self._stacks.values():
            for part in {*stack.services, *stack.volumes}:
                name = names.volume_name(stack.name, part)
                other = owners.setdefault(name, stack.name)
                if other != stack.name:
                    raise CatalogueError(
                        f"{stack.source}:",
                        f'"{part}" of {stack.name} and a part of {other} are both called "{name}"',
                        "rename one",
                    )

    def _check_needs(self, stack: Stack) -> None:
        seen: set[str] = set()
        for path, other, need in stack.declared_needs():
            where = f"{stack.source}: {path}"
            if other not in self._stacks:
                raise CatalogueError.of(names.unknown("stack", other, self._stacks)).within(where)
            for service in need.services:
                if condition := self._stacks[other].disabled.get(service):
                    raise CatalogueError(
                        where, f"uses {service} of {other}, which is disabled", f"have this hold: {condition}"
                    )
                if service not in self._stacks[other].services:
                    known = self._stacks[other].services
                    unknown = CatalogueError.of(names.unknown(f"service of {other}", service, known))
                    raise unknown.within(where)
            if other in seen:
                raise CatalogueError(where, "is needed already", "name it once")
            seen.add(other)
        if stack.through_tor and self.download_proxy not in stack.required:
            proxy = self.download_proxy
            remedy = f"add {proxy}: [] to needs" if proxy else "no stack has download_proxy"
            raise CatalogueError(f"{stack.source}:", "through_tor has no proxy", remedy)
        for other in stack.enabled_with:
            if other not in stack.required:
                raise CatalogueError(f"{stack.source}:", f"enabled_with.{other} is not needed", f"add {other} to needs")
        if not stack.uplink and any(service.host_port for service in stack.services.values()):
            raise CatalogueError(
                f"{stack.source}:", "host_port of a service needs uplink", "add it, or leave out host_port"
            )

    def _check_levels(self) -> None:
        """Refuse stacks whose credentials are made by others that get theirs in the same way, too often."""
        if too_high := [name for name, level in self.levels(self).items() if level > _HIGHEST_LEVEL]:
            raise CatalogueError(
                f"{self._stacks[too_high[0]].source}:",
                f"what makes its credentials gets its own ones in the same way, more than {_HIGHEST_LEVEL} times over",
                "have one of these stacks share a secret with its consumers instead",
            )

    def _find_only(self, field: str, what: str) -> str | None:
        """The one stack that has a field, for all others."""
        found = [stack for stack in self._stacks.values() if getattr(stack, field)]
        if len(found) > 1:
            first, second = found[:2]
            raise CatalogueError(
                f"{second.source}:", f"{field} is set, but stack {first.name} {what} already", "leave it out"
            )
        return found[0].name if found else None

    def _check_onions(self, stack: Stack) -> None:
        for key, service in stack.services.items():
            if service.onion and self.onion_gateway not in stack.required:
                gateway = self.onion_gateway
                remedy = f"add {gateway}: [] to needs" if gateway else "no stack has onion_gateway: true"
                raise CatalogueError(f"{stack.source}:", f"services.{key}.onion has no gateway", remedy)

    def _sorted(self) -> dict[str, int]:
        order: dict[str, int] = {}
        trail: list[str] = []

        def visit(name: str) -> None:
            if name in order:
                return
            if name in trail:
                circle = [*trail[trail.index(name) :], name]
                raise CatalogueError(
                    "Stacks need each other in a circle:",
                    f"{' -> '.join(circle)};",
                    f"take one of these needs out, such as needs.{name} in {self._stacks[trail[-1]].source}",
                )
            trail.append(name)
            for _path, other, _need in self._stacks[name].declared_needs():
                visit(other)
            trail.pop()
            order[name] = len(order)

        for name in self._stacks:
            visit(name)
        return order


def _resolved(stack: Stack, variables: Choices) -> Stack:
    choices = {}
    for name, group in stack.alternatives.items():
        chosen = variables.value(f"{stack.prefix}_{name}")
        choices[name] = next(iter(group)) if chosen in (None, "") else str(chosen)
        if choices[name] not in group:
            raise names.unknown("choice", choices[name], group).within(f"Variable {stack.prefix}_{name}")
    fixed = {
        other: need
        for other, need in stack.needs.items()
        if other not in stack.choices.values() and (need.when is None or variables.holds(need.when))
    }
    chosen_needs = {chosen: stack.alternatives[name][chosen] for name, chosen in choices.items()}
    through_tor = tuple(
        replace(asked, hosts=_hosts(asked.variable, variables.value(asked.variable))) for asked in stack.through_tor
    )
    disabled = {
        key: service.when
        for key, service in stack.services.items()
        if service.when is not None and not variables.holds(service.when)
    }
    return replace(
        stack,
        needs={**fixed, **chosen_needs},
        choices=choices,
        through_tor=through_tor,
        services={key: service for key, service in stack.services.items() if key not in disabled},
        disabled=disabled,
        web=tuple(page for page in stack.web if page.service not in disabled),
    )


def _hosts(variable: str, value: Any) -> tuple[str, ...]:
    """The names or addresses of hosts that a variable has, a list or a text with commas. Raises BcmError."""
    given = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value or []
    if not isinstance(given, list) or not all(isinstance(host, str) and _HOST.fullmatch(host) for host in given):
        raise BcmError(
            f"Variable {variable}",
            f"is {value!r}",
            remedy="write a list of names or IPv4 addresses of hosts, such as [api.example.org]",
            code="invalid_value",
        )
    return tuple(dict.fromkeys(given))


def _transitive(start: Iterable[str], step: Any) -> set[str]:
    reached: set[str] = set()
    ahead = list(start)
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead.extend(step(name))
    return reached


def stack_names(stack_path: Sequence[str | Path]) -> list[str]:
    """The names of the collection's stacks and of those in the folders of ``stack_path``. Raises CatalogueError."""
    return [names.stack_of(folder.name) for folder in (*_folders(ROLES), *_own_folders(stack_path))]


def _own_folders(stack_path: Sequence[str | Path]) -> Iterator[Path]:
    for entry in stack_path:
        path = Path(entry).expanduser().absolute()
        if not path.is_dir():
            raise CatalogueError(
                f"{path} in bcm_stack_path", "is not a directory", "make it, or take it out of the list"
            )
        yield from _folders(path)


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if (folder / FILE).is_file()) if path.is_dir() else []
