# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan refuses before the endpoint is asked for anything, and of which releases its images are made."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from .._artifact import lockfiles
from .._artifact.declaration import Release
from .._base import names
from .._base.errors import BcmError
from . import settings
from .catalogue import Catalogue
from .request import Site
from .stack import Stack, changes_of


class Variables(Protocol):
    """The variables of some stacks: defaults of their roles under those of the inventory."""

    def value(self, name: str) -> Any:
        """The value of a variable; None if it is not set. Raises BcmError if it cannot be templated."""

    @property
    def given(self) -> Collection[str]:
        """The names of those of the inventory and the command line."""

    @property
    def places(self) -> Collection[settings.Place]:
        """Where else in the inventory there are variables, and which."""

    def names(self, stack: Stack) -> Collection[str]:
        """The names of those that a stack's role reads."""

    def check(self, stack: Stack) -> None:
        """Compare a stack's variables with what its role says of them. Raises BcmError."""

    def holds(self, condition: str) -> bool:
        """Whether a Jinja condition is true. Raises BcmError if it cannot be evaluated."""

    def text(self, template: str) -> str:
        """What a Jinja template says. Raises BcmError if it cannot be evaluated."""


VariablesOf = Callable[[Sequence[Stack]], Variables]
#: how much a name is like another one if a letter is missing, doubled or wrong
_SAME_BUT_FOR_A_SLIP = 0.9
# what Ansible's own variables begin with, and the settings that `settings` checks
_OF_OTHERS = ("ansible_", settings.PREFIX)
# what else each task has of Ansible and of the plan
_OF_TASKS = {
    "bcm",
    "environment",
    "group_names",
    "groups",
    "hostvars",
    "inventory_dir",
    "inventory_file",
    "inventory_hostname",
    "inventory_hostname_short",
    "omit",
    "play_hosts",
    "playbook_dir",
    "role_name",
    "role_names",
    "role_path",
    "role_uuid",
    "vars",
}
#: stack -> what it may be made of, the best first
Releases = Mapping[str, Sequence[Release]]


def check_request(site: Site) -> None:
    """Refuse names that there are not. Raises BcmError."""
    request = site.request
    if not request.stacks:
        raise BcmError(
            "No stack is named",
            remedy=f"say which, with -e stack=NAME. Known stacks: {', '.join(site.catalogue)}",
            code="usage",
        )
    for name in (*request.stacks, *request.allow_below_floor):
        site.catalogue.named(name)
    for chain in request.software_ca_chains:
        if chain not in names.CHAINS:
            raise names.unknown("chain", chain, names.CHAINS)
    if request.brings_up:
        names.check_ca("ca_provider", request.provider, request.chain, request.software_ca_chains)


def check_variable_names(catalogue: Catalogue, variables_of: VariablesOf) -> list[str]:
    """Warnings about variables that are named as a stack's but that nothing reads.

    Raises BcmError for one whose name is like a known one, and for one that only some hosts have.
    """
    stacks = _stacks_meant(catalogue, variables_of([]))
    variables = variables_of(stacks)
    known = {stack.prefix: {*variables.names(stack), *stack.derived_variables} for stack in stacks}
    every = {*settings.OF_RUN}.union(*known.values())
    warnings = _check_names(catalogue, known, every, set(variables.given))
    for place in variables.places:
        warnings += _check_names(catalogue, known, every, place.variables)
        if not place.is_everywhere:
            settings.refuse_apart(place, every.difference(settings.OF_RUN))
    return list(dict.fromkeys(warnings))


def _stacks_meant(catalogue: Catalogue, variables: Variables) -> Sequence[Stack]:
    """Those whose variables have to be read: those with the prefix of a name, or all if a name may have lost its."""
    given = {*variables.given, *(name for place in variables.places for name in place.variables)}
    meant = {_prefix(catalogue, name) for name in given if not _is_of_others(name)}
    return [stack for stack in catalogue.values() if None in meant or stack.prefix in meant]


def _prefix(catalogue: Catalogue, name: str) -> str | None:
    return max(
        (stack.prefix for stack in catalogue.values() if name.startswith(f"{stack.prefix}_")), key=len, default=None
    )


def _is_of_others(name: str) -> bool:
    return name.startswith(_OF_OTHERS) or name in _OF_TASKS or name in settings.OF_COMMAND


def _check_names(
    catalogue: Catalogue, known: Mapping[str, Collection[str]], every: Collection[str], given: Collection[str]
) -> list[str]:
    stacks = {stack.prefix: stack.name for stack in catalogue.values()}
    warnings = []
    for name in sorted(set(given).difference(every)):
        prefix = _prefix(catalogue, name)
        if prefix is None:
            meant = None if _is_of_others(name) else names.nearest(name, sorted(every), _SAME_BUT_FOR_A_SLIP)
        else:
            # what all of them begin with makes none more like another
            ends = {own.removeprefix(f"{prefix}_"): own for own in known[prefix]}
            meant = ends.get(names.nearest(name.removeprefix(f"{prefix}_"), ends) or "")
        if meant:
            raise settings.misspelt(name, meant)
        if prefix is not None:
            stack = stacks[prefix]
            warnings.append(f"Variable {name} has the prefix of stack {stack}, but is not one of its variables")
    return warnings


def checked_releases(site: Site, stacks: Sequence[str], variables: Variables) -> tuple[Releases, list[str]]:
    """The releases of stacks that are to run, and warnings about them, once nothing speaks against it.

    Raises BcmError for a chain, a variable, an assertion or a version with which they cannot.
    """
    _check_chains(site, stacks)
    _check_source_lists(site, stacks, variables)
    chosen = [site.catalogue[name] for name in stacks]
    for stack in chosen:
        variables.check(stack)
    check_assertions(chosen, variables)
    releases = {stack.name: _releases(site, stack, variables) for stack in chosen}
    warnings: list[str] = []
    for stack in chosen:
        for release in releases[stack.name]:
            warnings += _below_floor(site, stack, release)
            lockfiles.check(release, stack.role_path)
    return releases, warnings


#: characters of a condition that a message shows
_SHOWN = 80


def check_assertions(stacks: Collection[Stack], variables: Variables) -> None:
    """Refuse what the stacks say they cannot work with. Raises BcmError."""
    for stack in stacks:
        for index, assertion in enumerate(stack.assertions):
            try:
                fault = None if variables.holds(assertion.that) else variables.text(assertion.fail_msg)
            except BcmError as error:
                raise error.within(f"{stack.source}: assertions.{index}") from error
            if fault is not None:
                condition = textwrap.shorten(assertion.that, _SHOWN, placeholder=" …")
                raise BcmError(f"Stack {stack.name}", f"requires {condition}", remedy=fault, code="invalid_value")


def _check_chains(site: Site, stacks: Sequence[str]) -> None:
    for name in stacks:
        stack = site.catalogue[name]
        if site.request.chain not in stack.chains:
            users = [other for other in stacks if name in site.catalogue[other].required]
            needed = f", which {' and '.join(users)} cannot do without," if users else ""
            raise BcmError(
                f"Stack {name}{needed}",
                f"does not know chain {site.request.chain}",
                remedy=f"choose one of {', '.join(stack.chains)}",
                code="invalid_value",
                about=f"Stack {name}",
            )


def _check_source_lists(site: Site, stacks: Sequence[str], variables: Variables) -> None:
    """On chains with valuable coins, an attacker who can cut a connection must not choose what runs.

    If downloads go through Tor, no observer may learn what is downloaded, so no other way is tried.
    """
    is_toy = site.request.chain == names.TOY_CHAIN
    if is_toy and not site.download_proxy:
        return
    lists = {
        f"{stack.prefix}_source": stack
        for stack in map(site.catalogue.named, stacks)
        if isinstance(variables.value(f"{stack.prefix}_source"), list)
    }
    if not lists:
        return
    first = {variable: next(iter(stack.artifact.sources)) for variable, stack in lists.items()}
    why = (
        f"alone, on {site.request.chain} an attacker who cuts connections would choose what runs"
        if not is_toy
        else "without bcm_downloads_through_tor, trying them would tell what is asked for"
    )
    raise BcmError(
        f"{' and '.join(lists)}: a list of sources is for {names.TOY_CHAIN} {why}",
        remedy="name one in the inventory, such as "
        + " and ".join(f"{variable}: {source}" for variable, source in first.items()),
        code="not_allowed",
        about=" and ".join(lists),
    )


def _releases(site: Site, stack: Stack, variables: Variables) -> list[Release]:
    changes = changes_of(stack.name, variables.value("bcm_artifacts"))
    below = stack.name in site.request.allow_below_floor
    preferred = stack.artifact.preferred(stack.name, variables.value(f"{stack.prefix}_source"), changes)
    return [stack.artifact.release(stack.name, source, changes, below) for source in preferred]


def _below_floor(site: Site, stack: Stack, release: Release) -> list[str]:
    """A warning if a version that is below the floor is allowed. Raises BcmError if it is not."""
    floor = stack.artifact.floor
    fault = floor.fault(release.name, release.version) if floor and release.version else None
    if fault is None:
        return []
    if stack.name not in site.request.allow_below_floor:
        raise BcmError(
            f"{fault};",
            remedy=f"choose a newer version, or name {stack.name} in allow_below_floor to accept this",
            code="below_floor",
        )
    return [f"{fault}; accepted because allow_below_floor names {stack.name}"]
