# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan: from the stacks a person names to everything the plays, the images and the endpoint need to know.

A pure function of the catalogue, the request and what was found on the endpoint. docs/stacks.md describes the result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Protocol

from .._artifact import lockfiles
from .._artifact.declaration import Release
from .._artifact.download import side_by_side
from .._base import names, network
from .._base.errors import BcmError
from .._base.fields import size_in_bytes
from .._base.read import read_number
from . import limits, onions, resources, volumes
from .catalogue import Catalogue
from .request import Found, Request, Site, Source
from .stack import Service, Stack, changes_of


class Variables(Protocol):
    """The variables of some stacks: defaults of their roles under those of the inventory."""

    def value(self, name: str) -> Any:
        """The value of a variable; None if it is not set. Raises BcmError if it cannot be templated."""

    def check(self, stack: Stack) -> None:
        """Compare a stack's variables with what its role says of them. Raises BcmError."""

    def holds(self, condition: str) -> bool:
        """Whether a Jinja condition is true. Raises BcmError if it cannot be evaluated."""

    def text(self, template: str) -> str:
        """What a Jinja template says. Raises BcmError if it cannot be evaluated."""


#: stack, its image variables and pins -> hash of the base image, hash of the image
ImageNames = Callable[[Stack, Mapping[str, Any]], tuple[str, str]]
#: release, hash of the image that it would go into -> why it cannot be had now; None if it can
OutOfReach = Callable[[Release, str], "str | None"]


@dataclass(frozen=True)
class _Candidate:
    """A source of a stack, and the image that it would make; or the fault because of which it makes none."""

    release: Release
    image: Mapping[str, Any]
    fault: str | None = None
    why: str = ""


class Planner:
    """Makes the plan of one request: `check` needs no endpoint, `plan` needs what was found there."""

    def __init__(
        self, catalogue: Catalogue, request: Request, variables_of: Callable[[Sequence[Stack]], Variables]
    ) -> None:
        self._variables_of = variables_of
        self.catalogue = catalogue.resolved(lambda stack, variable: variables_of([stack]).value(variable))
        self.request = request
        self.site = Site(self.catalogue, request)
        self._warnings: list[str] = []

    # -- checks -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse what cannot be, before anything is read from the endpoint or changed. Raises BcmError."""
        request = self.request
        if not request.stacks:
            raise BcmError(
                f"No stack is named: say which, with -e stack=NAME. Known stacks: {', '.join(self.catalogue)}"
            )
        for name in (*request.stacks, *request.allow_below_floor):
            self.catalogue.named(name)
        for chain in request.software_ca_chains:
            if chain not in names.CHAINS:
                raise names.unknown("chain", chain, names.CHAINS)
        if not request.brings_up:
            return
        closure = self._affected()
        names.check_ca("ca_provider", request.provider, request.chain, request.software_ca_chains)
        self._check_chains(closure)
        variables = self._variables(closure)
        self._check_preferences(closure, variables)
        for stack in map(self.catalogue.named, closure):
            variables.check(stack)
        self._check_assertions(closure, variables)
        for stack in map(self.catalogue.named, closure):
            for release in self._releases(stack, variables):
                self._check_floor(stack, release)
                lockfiles.check(release, stack.role_path)

    def _affected(self, found: Found | None = None) -> list[str]:
        """The stacks that are named, those that are enabled with them, and all that these need, in order.

        So are those of ``found`` that use one of these if it is there: their roles have to know that it is.
        """
        proxy = self.site.download_proxy
        affected = self.catalogue.closure((*self.request.stacks, *([proxy] if proxy else ())))
        for name in affected:
            conditions = self.catalogue[name].enabled_with
            if conditions and not self._is_enabled(name, affected):
                raise BcmError(
                    f"Stack {name} is there if {' or '.join(conditions.values())}, which is not so: set it in the "
                    "inventory"
                )
        while more := [name for name in self.catalogue if name not in affected and self._is_enabled(name, affected)]:
            affected = self.catalogue.closure((*affected, *more))
        there = found.stacks if found else {}
        new = affected.difference(there)
        users = [
            name
            for name in there
            if any(need.optional and other in new for other, need in self.catalogue[name].needs.items())
        ]
        return self.catalogue.ordered(self.catalogue.closure((*affected, *users)))

    def _is_enabled(self, name: str, affected: Collection[str]) -> bool:
        stack = self.catalogue[name]
        for other in affected if stack.enabled_with else ():
            try:
                if other in stack.enabled_with and self._variables([name, other]).holds(stack.enabled_with[other]):
                    return True
            except BcmError as error:
                raise BcmError(f"{stack.source}: enabled_with.{other}: {error}") from error
        return False

    def _disabled(self, affected: Collection[str], found: Found) -> list[str]:
        """Those that were enabled once and are no longer, and those that cannot do without them."""
        unwanted = [
            name
            for name in found.stacks
            if name not in affected
            and self.catalogue[name].enabled_with.keys() & set(affected)
            and not self._is_enabled(name, affected)
        ]
        return self.catalogue.ordered(self.catalogue.dependents(unwanted).intersection(found.stacks))[::-1]

    def _check_chains(self, stacks: Sequence[str]) -> None:
        for name in stacks:
            stack = self.catalogue[name]
            if self.request.chain not in stack.chains:
                users = [other for other in stacks if name in self.catalogue[other].required]
                needed = f", which {' and '.join(users)} cannot do without," if users else ""
                raise BcmError(
                    f"Stack {name}{needed} does not know chain {self.request.chain}: "
                    f"choose one of {', '.join(stack.chains)}"
                )

    def _check_assertions(self, stacks: Sequence[str], variables: Variables) -> None:
        for name in stacks:
            stack = self.catalogue[name]
            for index, assertion in enumerate(stack.assertions):
                try:
                    fault = None if variables.holds(assertion.that) else variables.text(assertion.fail_msg)
                except BcmError as error:
                    raise BcmError(f"{stack.source}: assertions.{index}: {error}") from error
                if fault is not None:
                    raise BcmError(f"Stack {name} requires {assertion.that}: {fault}")

    def _check_preferences(self, stacks: Sequence[str], variables: Variables) -> None:
        """Where coins are worth something, nobody who can cut a line chooses what runs.

        Where downloads go through Tor, nobody who can read it learns what is asked for, and so nothing is tried.
        """
        is_toy = self.request.chain == names.TOY_CHAIN
        if is_toy and not self.site.download_proxy:
            return
        lists = {
            f"{stack.prefix}_source": stack
            for stack in map(self.catalogue.named, stacks)
            if isinstance(variables.value(f"{stack.prefix}_source"), list)
        }
        if lists:
            first = {variable: next(iter(stack.artifact.sources)) for variable, stack in lists.items()}
            remedy = " and ".join(f"{variable}: {source}" for variable, source in first.items())
            why = (
                f"alone, on {self.request.chain} whoever cuts a connection would choose what runs"
                if not is_toy
                else "without bcm_downloads_through_tor, trying them would tell what is asked for"
            )
            raise BcmError(
                f"{' and '.join(lists)}: a list of sources is for {names.TOY_CHAIN} "
                f"{why}: name one in the inventory, such as {remedy}"
            )

    def _check_floor(self, stack: Stack, release: Release) -> None:
        floor = stack.artifact.floor
        fault = floor.fault(release.name, release.version) if floor and release.version else None
        if fault is None:
            return
        if stack.name not in self.request.allow_below_floor:
            raise BcmError(f"{fault}; choose a newer version, or name {stack.name} in allow_below_floor to accept this")
        self._warnings.append(f"{fault}; accepted because allow_below_floor names {stack.name}")

    # -- the plan -----------------------------------------------------------------------------------------------------

    def plan(
        self, found: Found, image_names: ImageNames, out_of_reach: OutOfReach = lambda _release, _image: None
    ) -> dict[str, Any]:
        """The whole plan, of plain types, for a request that `check` let through. Raises BcmError.

        ``out_of_reach`` decides between the sources of a list, if none was taken before.
        """
        for name in found.stacks:
            if name not in self.catalogue:
                raise BcmError(
                    f"Stack {name} runs in data center {self.request.datacenter} but is not in the catalogue, so its "
                    "network rules would be lost: add the directory of its folder to bcm_stack_path"
                )
        return self._up(found, image_names, out_of_reach) if self.request.brings_up else self._down(found)

    def _up(self, found: Found, image_names: ImageNames, out_of_reach: OutOfReach) -> dict[str, Any]:
        affected = self._affected(found)
        if not self.request.proxies_downloads and self.request.chain != names.TOY_CHAIN:
            self._warnings.append(
                "What images are made of is fetched without Tor, since bcm_downloads_through_tor is false"
            )
        disabled = self._disabled(affected, found)
        running = self.catalogue.ordered({*affected, *found.stacks}.difference(disabled))
        variables = self._variables(running)
        # `check` has seen what is asked for; what runs already may not go with it
        checked = self._affected()
        self._check_assertions([name for name in running if name not in checked], variables)
        enabled = [name for name in affected if self.catalogue[name].enabled_with]
        before = {name for name, deployed in found.stacks.items() if deployed.requested}.difference(disabled)
        requested = {*self.request.stacks, *enabled, *before}
        self._warnings += [
            f"Stack {name} is not enabled any more, and is removed; its volumes are kept" for name in disabled
        ]
        onion_services = onions.onion_services(self.site, running, variables.holds)
        candidates = [self._candidates(name, variables, found, image_names) for name in affected]
        # Each try may take seconds.
        taken = side_by_side([partial(_first_in_reach, items, out_of_reach) for items in candidates])
        images = {name: item.image for name, item in zip(affected, taken, strict=True)}
        sources = {
            name: Source(item.release.source, item.why)
            for name, item in zip(affected, taken, strict=True)
            if len(self.catalogue[name].artifact.sources) > 1
        }
        instances = {
            name: {
                **self._instance(name, running, name in requested, onion_services, variables),
                "limits": self._limits(self.catalogue[name], variables, found),
                "image": {key: images[name][key] for key in ("alias", "hash")},
                "artifact": {key: images[name]["artifact"][key] for key in ("source", "kind", "name", "version")},
            }
            for name in affected
        }
        moves = volumes.moves(self.request, instances, found)
        for instance in instances.values():
            behind = volumes.left_behind(self.request, instance, found, moves)
            instance["left_behind"] = resources.volumes_gone(self.site, behind) if self.request.move_volumes else []
            self._warnings += [
                f"Volume {volume} was moved and is still there: run again with -e move_volumes=true to delete it"
                for volume in behind
                if not self.request.move_volumes
            ]
        secrets, certificates = self._secrets(affected, running), self._certificates(affected)
        made = {"secrets": secrets, "certificates": certificates, "keys": certificates, "onions": onion_services}
        kept = {*found.kept, *(name for name, content in made.items() if content)}
        named = {*found.onions, *(service.name for service in onion_services)}
        remembered = resources.project_marks(self.site, sources, kept, named)
        return {
            **self._frame(affected, requested, running),
            "moves": resources.moved(self.site, instances, moves, found),
            "instances": instances,
            "images": list(images.values()),
            "secrets": secrets,
            "certificates": certificates,
            "onions": self._onions(onion_services, {*affected, *_running(found)}, found),
            "foundation": resources.foundation(self.site, remembered),
            "sources": [{"stack": name, "source": source.name, "why": source.why} for name, source in sources.items()],
            "download_proxy": self._download_proxy(instances, running, onion_services, found, remembered),
            "resources": [
                *resources.instances_gone(self.site, disabled),
                *resources.wanted(self.site, instances, running, onion_services, found, remembered),
            ],
            "warnings": [*self._warnings, *(exemption.warning for exemption in self.site.exceptions(*running))],
        }

    def _down(self, found: Found) -> dict[str, Any]:
        affected = self._taken_down(found)
        requested = {name for name, deployed in found.stacks.items() if deployed.requested}
        instances = {name: self._instance(name, found.stacks, name in requested, [], None) for name in affected}
        warnings: list[str] = []
        running = set(found.stacks).difference(affected)
        onion_services = onions.onion_services(self.site, running, self._variables(running).holds)
        if self.request.state == "stopped":
            changes = resources.stopped(self.site, instances)
        else:
            requested.difference_update(affected)
            changes, warnings = resources.removed(self.site, instances, running, onion_services, found)
            self._check_confirmed(changes)
        return {
            **self._frame(affected, requested, running),
            "instances": instances,
            "images": [],
            "secrets": [],
            "certificates": [],
            "onions": self._onions(onion_services, _running(found).difference(affected), found),
            "foundation": [],
            "sources": [],
            "download_proxy": None,
            "resources": changes,
            "warnings": warnings,
        }

    def _check_confirmed(self, changes: Sequence[Mapping[str, Any]]) -> None:
        """Refuse to delete a volume that nobody was asked about. Raises BcmError."""
        confirmed = self.request.confirmed_volumes
        doomed = (f"{item['pool']}/{item['name']}" for item in changes if item["kind"] == "storage_volume")
        more = [] if confirmed is None else sorted(set(doomed).difference(confirmed))
        if more:
            raise BcmError(
                f"{', '.join(more)} would be deleted, too, and was not confirmed: nothing was deleted, type it again"
            )

    def _taken_down(self, found: Found) -> list[str]:
        """What was named, what needs it, and what nobody needs any more; consumers first."""
        named = self.catalogue.dependents(self.request.stacks)
        stopping = self.request.state == "stopped"
        staying = [
            name
            for name, deployed in found.stacks.items()
            if deployed.requested and name not in named and (deployed.running or not stopping)
        ]
        kept = self.catalogue.closure(staying)
        return self.catalogue.ordered(set(found.stacks).difference(kept))[::-1]

    def _frame(self, affected: Sequence[str], requested: Collection[str], running: Collection[str]) -> dict[str, Any]:
        request, site = self.request, self.site
        return {
            "datacenter": request.datacenter,
            "chain": request.chain,
            "state": request.state,
            "delete_data": request.delete_data,
            "project": site.names.project,
            "domain": site.names.domain,
            "ca_provider": request.provider,
            # where keys are in a file, secrets may be, too
            "vault_id": request.datacenter if request.provider == "trezor" else None,
            "storage_pool": request.storage_pool,
            "network": {"acl": site.names.network, **_subnet(site.names.network, site.subnets.network)},
            "uplink": {"acl": site.names.uplink, **_subnet(site.names.uplink, site.subnets.uplink)},
            "builders": _subnet(site.names.builders, site.subnets.builders),
            "requested": self.catalogue.ordered(requested),
            "stacks": list(affected),
            "moves": {"instances": [], "volumes": []},
            "exceptions": [exemption.plain() for exemption in site.exceptions(*running)],
        }

    def _download_proxy(
        self,
        instances: Mapping[str, Mapping[str, Any]],
        running: Collection[str],
        onion_services: Sequence[onions.OnionService],
        found: Found,
        remembered: Mapping[str, str],
    ) -> dict[str, Any] | None:
        """What is to be there before images are baked that are fetched through it; None if they come directly."""
        proxy = self.site.download_proxy
        if proxy is None:
            return None
        first = self._first()
        wanted = resources.wanted(
            self.site,
            {name: instance for name, instance in instances.items() if name in first},
            running,
            onion_services,
            found,
            remembered,
            builders_of=[name for name in instances if name not in first],
        )
        return {
            "stack": proxy,
            "stacks": first,
            # What is to be restarted is restarted once, with all the others.
            "resources": [{**item, "state": "started"} if item["kind"] == "instance" else item for item in wanted],
        }

    def _first(self) -> list[str]:
        """The stacks that are there before others are baked: the proxy of downloads, and what it needs."""
        proxy = self.site.download_proxy
        return self.catalogue.ordered(self.catalogue.closure([proxy])) if proxy else []

    def _way_of_downloads(self, name: str) -> dict[str, Any] | None:
        """How the builder of a stack, and the controller for it, fetch what goes into an image.

        None for directly; ``proxy`` is None for what is there before the proxy of the others.
        """
        site = self.site
        proxy = site.download_proxy
        if proxy is None:
            return None
        if name in self._first():
            return {"proxy": None}
        socks, tunnel = (f"{site.addresses[proxy]}:{site.download_ports[key]}" for key in ("socks", "tunnel"))
        return {
            "proxy": proxy,
            "socks": socks,
            "environment": dict.fromkeys(("https_proxy", "HTTPS_PROXY"), f"http://{tunnel}"),
            "nic": resources.nic("eth0", site.names.network, site.builders[name]),
        }

    def _onions(
        self, onion_services: Sequence[onions.OnionService], running: Collection[str], found: Found
    ) -> dict[str, Any]:
        """The onion services there are to be, those that have addresses, and their gateway if it runs."""
        gateway = self.catalogue.onion_gateway
        return {
            "gateway": gateway if gateway in running else None,
            "services": [service.item() for service in onion_services],
            "known": sorted(found.onions),
        }

    def _instance(
        self,
        name: str,
        running: Collection[str],
        requested: bool,
        onion_services: Sequence[onions.OnionService],
        variables: Variables | None,
    ) -> dict[str, Any]:
        """What the plays know of an instance; without variables, on the way down, what needs none."""
        request, site, stack = self.request, self.site, self.catalogue[name]
        return {
            "stack": name,
            "role": stack.role,
            "role_path": str(stack.role_path),
            "tier": stack.tier,
            "chain": request.chain,
            "datacenter": request.datacenter,
            "domain": site.names.domain,
            "project": site.names.project,
            "address": str(site.addresses[name]),
            "network": str(site.subnets.network),
            "gateway": str(network.gateway(site.subnets.network)),
            "requested": requested,
            # a program whose service has TLS listens behind the proxy that speaks it
            "services": {
                key: {
                    **site.service(name, key),
                    "listen": "127.0.0.1" if service.tls else str(self._way_in(name, service)),
                    **({"host_port": self._host_port(stack, key, variables)} if service.host_port else {}),
                }
                for key, service in stack.services.items()
            },
            "needs": {
                other: {
                    key: {"address": str(site.addresses[other]), **site.service(other, key)} for key in need.services
                }
                for other, need in stack.needs.items()
                if not need.optional or other in running
            },
            "choices": dict(stack.choices),
            "consumers": {
                other: {
                    "address": str(site.addresses[other]),
                    "services": list(need.services),
                    "permissions": dict(need.permissions),
                }
                for other in self.catalogue.ordered(running)
                if (need := self.catalogue[other].needs.get(name))
            },
            "onions": onions.facts(onion_services, name),
            "web": [
                {"service": page.service, "path": page.path, "title": page.title, "icon": page.icon}
                for page in stack.web
            ],
            "volumes": {
                key: {
                    "volume": names.volume_name(name, key),
                    "path": volume.path,
                    "size": self._size(stack, key, variables),
                    "backup": volume.backup,
                }
                for key, volume in stack.volumes.items()
            },
            "needs_ca": site.needs_ca(name),
            "has_certificate": site.has_certificate(name),
            "uplink": self._uplink(name),
            "builders": str(network.builders(site.subnets.network)) if name == site.download_proxy else None,
            "exceptions": [exemption.plain() for exemption in site.exceptions(name)],
        }

    def _way_in(self, name: str, service: Service) -> IPv4Address:
        return (self.site.uplinks if service.host_port else self.site.addresses)[name]

    def _host_port(self, stack: Stack, key: str, variables: Variables | None) -> dict[str, Any] | None:
        """The address and port of the host that lead to it; None if none does."""
        variable = f"{stack.prefix}_{key}_host_port"
        where = str((variables and variables.value(variable)) or "")
        if not where:
            return None
        address, _colon, port = where.rpartition(":")
        try:
            if IPv4Address(address).is_unspecified:
                raise ValueError
            return {"address": address, "port": read_number(port, 1, 65535)}
        except ValueError:
            raise BcmError(
                f'Variable {variable} is "{where}": write an IPv4 address of the host and a port, such as 192.0.2.1:443'
            ) from None

    def _uplink(self, name: str) -> dict[str, Any] | None:
        """Its second network, and what it may reach there; None if it has none."""
        site = self.site
        rules = [{key: way[key] for key in ("protocol", "to", "port")} for way in site.ways_out(name)]
        if not rules:
            return None
        return {
            "user": self.catalogue[name].uplink,
            "address": str(site.uplinks[name]),
            "gateway": str(network.gateway(site.subnets.uplink)),
            "subnet": str(site.subnets.uplink),
            "rules": rules,
        }

    def _candidates(self, name: str, variables: Variables, found: Found, image_names: ImageNames) -> list[_Candidate]:
        """What a stack's image may be made of, the best first; if one was taken before, that one alone."""
        releases = self._releases(self.catalogue[name], variables)
        why = f"the first of {', '.join(release.source for release in releases)}"
        if len(releases) == 1:
            why = f"{self.catalogue[name].prefix}_source says so"
        elif (kept := found.sources.get(name)) and (same := [item for item in releases if item.source == kept.name]):
            releases, why = same, kept.why
        candidates = []
        for release in releases:
            try:
                image = self._image(name, release, variables, found.architecture, image_names)
            except BcmError as error:
                if release is releases[-1]:
                    raise
                candidates.append(_Candidate(release, {}, str(error)))
            else:
                candidates.append(_Candidate(release, image, why=why))
        return candidates

    def _image(
        self, name: str, release: Release, variables: Variables, architecture: str, image_names: ImageNames
    ) -> dict[str, Any]:
        stack = self.catalogue[name]
        values = {}
        for key in stack.image_variables:
            values[key] = variables.value(key)
            if values[key] is None:
                raise BcmError(
                    f"{stack.source}: image.variables: {key} is not set: give it a value in "
                    f"{stack.role_path}/defaults/main.yml or in the inventory"
                )
        has_certificate = self.site.has_certificate(name)
        pins = release.pins(architecture)
        base_hash, digest = image_names(stack, {**values, "artifact": pins, "shows": has_certificate})
        return {
            "stack": name,
            "role": stack.role,
            "role_path": str(stack.role_path),
            "alias": names.image_alias(name, digest),
            "hash": digest,
            "base_alias": names.image_alias("base", base_hash),
            "base_hash": base_hash,
            "artifact": release.only(architecture).plain(),
            "package": release.package,
            "downloads": self._way_of_downloads(name),
            "version_command": list(stack.artifact.version_command),
            "has_certificate": has_certificate,
            "floor": _floor(stack),
            "allow_below_floor": name in self.request.allow_below_floor,
        }

    def _size(self, stack: Stack, key: str, variables: Variables | None) -> str:
        variable = f"{stack.prefix}_{key}_size"
        size = variables.value(variable) if variables else None
        if size is None:
            return stack.volumes[key].size(self.request.chain)
        try:
            size_in_bytes(str(size))
        except BcmError as error:
            raise BcmError(f"Variable {variable}: {error}") from error
        return str(size)

    def _limits(self, stack: Stack, variables: Variables, found: Found) -> dict[str, Any]:
        chosen, warnings = limits.chosen(stack.name, stack.limits, self.request.chain, found.host, variables.value)
        self._warnings += warnings
        return chosen

    def _releases(self, stack: Stack, variables: Variables) -> list[Release]:
        """What a stack may be made of, the best first."""
        changes = changes_of(stack.name, variables.value("bcm_artifacts"))
        below = stack.name in self.request.allow_below_floor
        preferred = stack.artifact.preferred(stack.name, variables.value(f"{stack.prefix}_source"), changes)
        return [stack.artifact.release(stack.name, source, changes, below) for source in preferred]

    def _variables(self, stacks: Collection[str]) -> Variables:
        return self._variables_of([self.catalogue[name] for name in self.catalogue.ordered(stacks)])

    def _certificates(self, affected: Collection[str]) -> list[dict[str, Any]]:
        """One certificate for each stack that has one, as `ca_authority` takes it."""
        site = self.site
        return [
            {
                "name": name,
                "names": [f"{name}.{site.names.domain}", str(site.addresses[name])],
                "usage": site.usage(name),
            }
            for name in self.catalogue.ordered(affected)
            if site.has_certificate(name)
        ]

    def _secrets(self, affected: Collection[str], running: Collection[str]) -> list[str]:
        """One secret for each consumer of each service: `<stack>/<service>/<consumer>`; and what is a stack's own."""
        shared = (
            f"{provider}/{service}/{consumer}"
            for consumer, provider, service in self.site.edges(running)
            if consumer in affected or provider in affected
        )
        return sorted((*shared, *(f"{name}/{own}" for name in affected for own in self.catalogue[name].secrets)))


def _first_in_reach(candidates: Sequence[_Candidate], out_of_reach: OutOfReach) -> _Candidate:
    """The first that can be had. The last needs no try: if it cannot, baking it says why."""
    *others, last = candidates
    faults = []
    for item in others:
        fault = item.fault or out_of_reach(item.release, item.image["hash"])
        if fault is None:
            return item
        faults.append(f"{item.release.source} cannot be had ({fault})")
    return replace(last, why="; ".join(faults)) if faults else last


def _running(found: Found) -> set[str]:
    return {name for name, deployed in found.stacks.items() if deployed.running}


def _floor(stack: Stack) -> dict[str, Any] | None:
    floor = stack.artifact.floor
    return {"versions": list(floor.versions), "why": floor.why} if floor else None


def _subnet(name: str, subnet: IPv4Network) -> dict[str, str]:
    return {"name": name, "subnet": str(subnet), "gateway": str(network.gateway(subnet))}
