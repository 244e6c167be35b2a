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

from .._artifact import locks
from .._artifact.declaration import Release
from .._artifact.download import side_by_side
from .._errors import BcmError
from .._read import read_number
from . import limits, names, network, onions, resources, volumes
from .catalogue import Catalogue, Service, Stack, changes_of
from .fields import size_in_bytes
from .request import Found, Request, Site, Source


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
        self.catalogue = catalogue
        self.request = request
        self.site = Site(catalogue, request)
        self._variables_of = variables_of
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
        closure = self._acted()
        names.check_ca("ca_provider", request.provider, request.chain, request.software_ca_chains)
        self._check_chains(closure)
        variables = self._variables(closure)
        self._check_preferences(closure, variables)
        for stack in map(self.catalogue.named, closure):
            variables.check(stack)
        self._check_refusals(closure, variables)
        for stack in map(self.catalogue.named, closure):
            for release in self._releases(stack, variables):
                self._check_floor(stack, release)
                locks.check(release, stack.role_path)

    def _acted(self) -> list[str]:
        """The stacks that are named, those that join, and all that these need, in order."""
        carrier = self.site.downloader
        acted = self.catalogue.closure((*self.request.stacks, *([carrier] if carrier else ())))
        for name in acted:
            joins = self.catalogue[name].joins
            if joins and not self._joins(name, acted):
                raise BcmError(
                    f"Stack {name} is there if {' or '.join(joins.values())}, which is not so: set it in the inventory"
                )
        while more := [name for name in self.catalogue if name not in acted and self._joins(name, acted)]:
            acted = self.catalogue.closure((*acted, *more))
        return self.catalogue.ordered(acted)

    def _joins(self, name: str, acted: Collection[str]) -> bool:
        stack = self.catalogue[name]
        for other in acted if stack.joins else ():
            try:
                if other in stack.joins and self._variables([name, other]).holds(stack.joins[other]):
                    return True
            except BcmError as error:
                raise BcmError(f"{stack.source}: joins.{other}: {error}") from error
        return False

    def _leaving(self, acted: Collection[str], found: Found) -> list[str]:
        """Those that joined once and do no longer, and who cannot do without them."""
        unwanted = [
            name
            for name in found.stacks
            if name not in acted and self.catalogue[name].joins.keys() & set(acted) and not self._joins(name, acted)
        ]
        return self.catalogue.ordered(self.catalogue.dependents(unwanted).intersection(found.stacks))[::-1]

    def _check_chains(self, stacks: Sequence[str]) -> None:
        for name in stacks:
            stack = self.catalogue[name]
            if self.request.chain not in stack.chains:
                users = [other for other in stacks if name in self.catalogue[other].needs]
                needed = f", which {' and '.join(users)} cannot do without," if users else ""
                raise BcmError(
                    f"Stack {name}{needed} does not know chain {self.request.chain}: "
                    f"choose one of {', '.join(stack.chains)}"
                )

    def _check_refusals(self, stacks: Sequence[str], variables: Variables) -> None:
        for name in stacks:
            stack = self.catalogue[name]
            for index, refusal in enumerate(stack.refuses):
                try:
                    why = variables.text(refusal.why) if variables.holds(refusal.when) else None
                except BcmError as error:
                    raise BcmError(f"{stack.source}: refuses.{index}.when: {error}") from error
                if why is not None:
                    raise BcmError(f"Stack {name} refuses {refusal.when}: {why}; {refusal.remedy}")

    def _check_preferences(self, stacks: Sequence[str], variables: Variables) -> None:
        """Where coins are worth something, nobody who can cut a line chooses what runs.

        Where downloads go through Tor, nobody who can read it learns what is asked for, and so nothing is tried.
        """
        is_toy = self.request.chain == names.TOY_CHAIN
        if is_toy and not self.site.downloader:
            return
        lists = {name: value for name in stacks if isinstance(value := variables.value(f"{name}_source"), list)}
        if lists:
            first = {name: next(iter(self.catalogue[name].artifact.sources)) for name in lists}
            remedy = " and ".join(f"{name}_source: {source}" for name, source in first.items())
            why = (
                f"alone, on {self.request.chain} whoever cuts a connection would choose what runs"
                if not is_toy
                else "without bcm_downloads_through_tor, trying them would tell what is asked for"
            )
            raise BcmError(
                f"{' and '.join(f'{name}_source' for name in lists)}: a list of sources is for {names.TOY_CHAIN} "
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
        acted = self._acted()
        if not self.request.carries_downloads and self.request.chain != names.TOY_CHAIN:
            self._warnings.append(
                "What images are made of is fetched without Tor, since bcm_downloads_through_tor is false"
            )
        leaving = self._leaving(acted, found)
        live = self.catalogue.ordered({*acted, *found.stacks}.difference(leaving))
        variables = self._variables(live)
        # `check` has seen what is acted on; what runs already may not go with it
        self._check_refusals([name for name in live if name not in acted], variables)
        joined = [name for name in acted if self.catalogue[name].joins]
        before = {name for name, deployed in found.stacks.items() if deployed.asked}.difference(leaving)
        asked = {*self.request.stacks, *joined, *before}
        self._warnings += [f"Stack {name} joins no longer, and is taken away; its volumes stay" for name in leaving]
        carried = onions.carried(self.site, live, variables.holds)
        candidates = [self._candidates(name, variables, found, image_names) for name in acted]
        # Each try may take seconds.
        taken = side_by_side([partial(_first_in_reach, items, out_of_reach) for items in candidates])
        images = {name: item.image for name, item in zip(acted, taken, strict=True)}
        sources = {
            name: Source(item.release.source, item.why)
            for name, item in zip(acted, taken, strict=True)
            if len(self.catalogue[name].artifact.sources) > 1
        }
        instances = {
            name: {
                **self._instance(name, live, name in asked, carried, variables),
                "limits": self._limits(self.catalogue[name], variables, found),
                "image": {key: images[name][key] for key in ("alias", "hash")},
                "artifact": {key: images[name]["artifact"][key] for key in ("source", "kind", "name", "version")},
            }
            for name in acted
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
        secrets, certificates = self._secrets(acted, live), self._certificates(acted)
        made = {"secrets": secrets, "certificates": certificates, "keys": certificates, "onions": carried}
        kept = {*found.kept, *(name for name, content in made.items() if content)}
        named = {*found.onions, *(service.name for service in carried)}
        remembered = resources.project_marks(self.site, sources, kept, named)
        return {
            **self._frame(acted, asked, live),
            "moves": resources.moved(self.site, instances, moves, found),
            "instances": instances,
            "images": list(images.values()),
            "secrets": secrets,
            "certificates": certificates,
            "onions": self._onions(carried, {*acted, *_running(found)}, found),
            "foundation": resources.foundation(self.site, remembered),
            "sources": [{"stack": name, "source": source.name, "why": source.why} for name, source in sources.items()],
            "downloads": self._downloads(instances, live, carried, found, remembered),
            "resources": [
                *resources.instances_gone(self.site, leaving),
                *resources.wanted(self.site, instances, live, carried, found, remembered),
            ],
            "warnings": [*self._warnings, *(exemption.warning for exemption in self.site.exceptions(*live))],
        }

    def _down(self, found: Found) -> dict[str, Any]:
        acted = self._taken_down(found)
        asked = {name for name, deployed in found.stacks.items() if deployed.asked}
        instances = {name: self._instance(name, found.stacks, name in asked, [], None) for name in acted}
        warnings: list[str] = []
        live = set(found.stacks).difference(acted)
        carried = onions.carried(self.site, live, self._variables(live).holds)
        if self.request.state == "stopped":
            changes = resources.stopped(self.site, instances)
        else:
            asked.difference_update(acted)
            changes, warnings = resources.removed(self.site, instances, live, carried, found)
            self._check_confirmed(changes)
        return {
            **self._frame(acted, asked, live),
            "instances": instances,
            "images": [],
            "secrets": [],
            "certificates": [],
            "onions": self._onions(carried, _running(found).difference(acted), found),
            "foundation": [],
            "sources": [],
            "downloads": None,
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
            if deployed.asked and name not in named and (deployed.running or not stopping)
        ]
        kept = self.catalogue.closure(staying)
        return self.catalogue.ordered(set(found.stacks).difference(kept))[::-1]

    def _frame(self, acted: Sequence[str], asked: Collection[str], live: Collection[str]) -> dict[str, Any]:
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
            "asked": self.catalogue.ordered(asked),
            "stacks": list(acted),
            "moves": {"instances": [], "volumes": []},
            "exceptions": [exemption.plain() for exemption in site.exceptions(*live)],
        }

    def _downloads(
        self,
        instances: Mapping[str, Mapping[str, Any]],
        live: Collection[str],
        carried: Sequence[onions.Carried],
        found: Found,
        remembered: Mapping[str, str],
    ) -> dict[str, Any] | None:
        """What is to be there before images are baked that are fetched through it; None if they come directly."""
        carrier = self.site.downloader
        if carrier is None:
            return None
        first = self._first()
        wanted = resources.wanted(
            self.site,
            {name: instance for name, instance in instances.items() if name in first},
            live,
            carried,
            found,
            remembered,
            builders_of=[name for name in instances if name not in first],
        )
        return {
            "carrier": carrier,
            "stacks": first,
            # What is to be restarted is restarted once, with all the others.
            "resources": [{**item, "state": "started"} if item["kind"] == "instance" else item for item in wanted],
        }

    def _first(self) -> list[str]:
        """The stacks that are there before others are baked: the one that carries downloads, and what it needs."""
        carrier = self.site.downloader
        return self.catalogue.ordered(self.catalogue.closure([carrier])) if carrier else []

    def _way_of_downloads(self, name: str) -> dict[str, Any] | None:
        """How the builder of a stack, and the controller for it, fetch what goes into an image.

        None for directly; ``carrier`` is None for what is there before the one that carries the others.
        """
        site = self.site
        carrier = site.downloader
        if carrier is None:
            return None
        if name in self._first():
            return {"carrier": None}
        socks, tunnel = (f"{site.addresses[carrier]}:{site.download_ports[key]}" for key in ("socks", "tunnel"))
        return {
            "carrier": carrier,
            "socks": socks,
            "environment": dict.fromkeys(("https_proxy", "HTTPS_PROXY"), f"http://{tunnel}"),
            "nic": resources.nic("eth0", site.names.network, site.builders[name]),
        }

    def _onions(self, carried: Sequence[onions.Carried], running: Collection[str], found: Found) -> dict[str, Any]:
        """The onion services there are to be, those that have addresses, and who carries them if he runs."""
        carrier = self.catalogue.carrier
        return {
            "carrier": carrier if carrier in running else None,
            "services": [service.item() for service in carried],
            "known": sorted(found.onions),
        }

    def _instance(
        self,
        name: str,
        neighbours: Collection[str],
        asked: bool,
        carried: Sequence[onions.Carried],
        variables: Variables | None,
    ) -> dict[str, Any]:
        """What the plays know of an instance; without variables, on the way down, what needs none."""
        request, site, stack = self.request, self.site, self.catalogue[name]
        consumers = {
            other: self.catalogue[other].needs[name]
            for other in self.catalogue.ordered(neighbours)
            if name in self.catalogue[other].needs
        }
        return {
            "stack": name,
            "role": stack.role,
            "role_path": str(stack.role_path),
            "tier": stack.tier,
            "kind": stack.kind,
            "chain": request.chain,
            "datacenter": request.datacenter,
            "domain": site.names.domain,
            "project": site.names.project,
            "endpoint": request.endpoint,
            "address": str(site.addresses[name]),
            "network": str(site.subnets.network),
            "gateway": str(network.gateway(site.subnets.network)),
            "asked": asked,
            # a program whose service has TLS listens behind the proxy that speaks it
            "services": {
                key: {
                    **site.service(name, key),
                    "listen": "127.0.0.1" if service.tls else str(self._way_in(name, service)),
                    **({"published": self._published(stack, key, variables)} if service.published else {}),
                }
                for key, service in stack.services.items()
            },
            "needs": {
                other: {key: {"address": str(site.addresses[other]), **site.service(other, key)} for key in services}
                for other, services in stack.needs.items()
            },
            "clients": {
                key: {other: str(site.addresses[other]) for other, used in consumers.items() if key in used}
                for key in stack.services
            },
            "onions": onions.facts(carried, name),
            "asks": {other: dict(asks[name]) for other in consumers if name in (asks := self.catalogue[other].asks)},
            "volumes": {
                key: {
                    "volume": names.volume_name(name, key),
                    "path": volume.path,
                    "size": self._size(stack, key, variables),
                    "backup": volume.backup,
                }
                for key, volume in stack.volumes.items()
            },
            "floor": _floor(stack),
            "trusts": site.trusts(name),
            "shows": site.shows(name),
            "uplink": self._uplink(name),
            "builders": str(network.builders(site.subnets.network)) if name == site.downloader else None,
            "exceptions": [exemption.plain() for exemption in site.exceptions(name)],
            "display": stack.display,
        }

    def _way_in(self, name: str, service: Service) -> IPv4Address:
        return (self.site.uplinks if service.published else self.site.addresses)[name]

    def _published(self, stack: Stack, key: str, variables: Variables | None) -> dict[str, Any] | None:
        """Where on the host it is to be reached from outside; None for nowhere."""
        variable = f"{stack.name}_{key}_published"
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
            why = f"{name}_source says so"
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
        shows = self.site.shows(name)
        base_hash, digest = image_names(stack, {**values, "artifact": release.pins(architecture), "shows": shows})
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
            "shows": shows,
            "floor": _floor(stack),
            "allow_below_floor": name in self.request.allow_below_floor,
        }

    def _size(self, stack: Stack, key: str, variables: Variables | None) -> str:
        variable = f"{stack.name}_{key}_size"
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
        preferred = stack.artifact.preferred(stack.name, variables.value(f"{stack.name}_source"), changes)
        return [stack.artifact.release(stack.name, source, changes, below) for source in preferred]

    def _variables(self, stacks: Collection[str]) -> Variables:
        return self._variables_of([self.catalogue[name] for name in self.catalogue.ordered(stacks)])

    def _certificates(self, acted: Collection[str]) -> list[dict[str, Any]]:
        """One certificate for each stack that shows one, as `ca_authority` takes it."""
        site = self.site
        return [
            {
                "name": name,
                "names": [f"{name}.{site.names.domain}", str(site.addresses[name])],
                "usage": site.usage(name),
            }
            for name in self.catalogue.ordered(acted)
            if site.shows(name)
        ]

    def _secrets(self, acted: Collection[str], live: Collection[str]) -> list[str]:
        """One secret for each consumer of each service: `<stack>/<service>/<consumer>`; and what is a stack's own."""
        shared = (
            f"{provider}/{service}/{consumer}"
            for consumer, provider, service in self.site.edges(live)
            if consumer in acted or provider in acted
        )
        return sorted((*shared, *(f"{name}/{own}" for name in acted for own in self.catalogue[name].secrets)))


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
