# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the stacks a person names to the plan: a pure function of the catalogue, the request and what was found.

First comes what needs no endpoint, so that wrong input ends before anything is read from one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network

from .._base import names, network
from .._base.errors import BcmError
from . import limits, onions, placement, planned_resources, volumes
from .catalogue import Catalogue
from .checks import (
    Variables,
    VariablesOf,
    check_assertions,
    check_request,
    check_variable_names,
    checked_releases,
)
from .image_choice import ChosenImage, ImageChooser, ImageNames, OutOfReach, before_others
from .instance_facts import describe, summarize
from .model import (
    ArtifactFacts,
    Certifiable,
    Certificate,
    DownloadProxy,
    ImageName,
    Instance,
    Onions,
    Plan,
    Reporter,
    Resource,
    StackSummary,
    Subnet,
)
from .onions import OnionService
from .request import Member, ProjectState, Request, Site, Source


class Planner:
    """Makes the plan of one request."""

    def __init__(self, catalogue: Catalogue, request: Request, variables_of: VariablesOf) -> None:
        self._variables_of = variables_of
        self.catalogue = catalogue.resolved(variables_of)
        self.request = request
        self.site = Site(self.catalogue, request)

    def plan(
        self,
        find: Callable[[Site], ProjectState],
        image_names: ImageNames,
        out_of_reach: OutOfReach = lambda _release, _image: None,
    ) -> Plan:
        """The whole plan. Raises BcmError, for what the request alone shows before ``find`` is called.

        ``out_of_reach`` decides between the sources of a list, if none was taken before.
        """
        check_request(self.site)
        if self.request.brings_up:
            return self._up(find, image_names, out_of_reach)
        found = find(self.site)
        self._check_known(found)
        return self._down(found)

    # -- up -----------------------------------------------------------------------------------------------------------

    def _up(
        self,
        find: Callable[[Site], ProjectState],
        image_names: ImageNames,
        out_of_reach: OutOfReach,
        emptied: Collection[str] = (),
    ) -> Plan:
        """``emptied`` are neighbours that lose the credentials which they have, since they get another image."""
        site = self.site
        unread = check_variable_names(self.catalogue, self._variables_of)
        named = self._requested_closure()
        releases, warnings = checked_releases(site, named, self._variables(named))
        found = find(site)
        self._check_known(found)
        member = placement.choose_member(self.request, found)
        if member:
            found = replace(found, host=member.host)
        affected = self._with_neighbours(named, emptied, found)
        disabled = self._disabled(affected, found)
        running = self.catalogue.ordered({*affected, *found.stacks}.difference(disabled))
        variables = self._variables(running)
        # what runs already may not go with what is asked for
        users = [name for name in affected if name not in named]
        more, warned = checked_releases(site, users, variables)
        check_assertions([self.catalogue[name] for name in running if name not in affected], variables)
        releases, warnings = {name: {**releases, **more}[name] for name in affected}, unread + warnings + warned
        if not self.request.proxies_downloads and self.request.chain != names.TOY_CHAIN:
            warnings.append("What images are made of is fetched without Tor, since bcm_downloads_through_tor is false")
        warnings += [f"Stack {name} is not enabled any more, and is removed; its volumes are kept" for name in disabled]
        requested = {
            *self.request.stacks,
            *(name for name in affected if self.catalogue[name].enabled_with),
            *_requested(found).difference(disabled),
        }
        onion_services = onions.onion_services(site, running, variables.holds)
        chosen = ImageChooser(site, variables, found, image_names, out_of_reach).choose(releases)
        if not emptied and (more_emptied := self._emptied(affected, named, running, found, chosen)):
            return self._up(lambda _site: found, image_names, out_of_reach, more_emptied)
        for name, item in chosen.items():
            self.catalogue[name].artifact.check_forward(item.release, found.versions.get(name))
        versions = {
            name: item.release.version
            for name, item in chosen.items()
            if self.catalogue[name].artifact.forward_only and item.release.version
        }
        sources = tuple(item.source for name, item in chosen.items() if len(self.catalogue[name].artifact.sources) > 1)
        instances, warned = self._instances(affected, running, requested, onion_services, variables, found, chosen)
        moves = volumes.find_moves(self.request, instances, found)
        instances, left = self._with_left_behind(instances, found, moves)
        secrets, certificates = self._secrets(affected, running), self._certificates(affected)
        made = {"secrets": secrets, "certificates": certificates, "keys": certificates, "onions": onion_services}
        kept = {*found.kept, *(name for name, content in made.items() if content)}
        known = {*found.onions, *(service.name for service in onion_services)}
        others = self._outside(chosen, found)
        remembered = planned_resources.project_marks(
            site,
            found.sources_of(others) | {taken.stack: Source(taken.source, taken.why) for taken in sources},
            kept,
            known,
            {*found.secrets, *secrets},
            found.versions_of(others) | versions,
        )
        return replace(
            self._frame(affected, requested, running),
            host=member.name if member else None,
            moves=planned_resources.volume_moves(site, instances, moves, found),
            instances=instances,
            has_own_steps=any(map(_needs_own_steps, instances.values())),
            images=tuple(item.image for item in chosen.values()),
            secrets=secrets,
            known_secrets=tuple(sorted(found.secrets)),
            certificates=certificates,
            certifiable=Certifiable(site.access.domains, site.access.addresses),
            onions=self._onions(onion_services, {*affected, *_running(found)}, found),
            summary=self._summary(running, onion_services, variables),
            reporters=self._reporters({*affected, *_running(found)}.intersection(running)),
            builder_resources=tuple(planned_resources.builder_resources(site, remembered)),
            sources=sources,
            download_proxy=self._download_proxy(instances, running, onion_services, found, remembered, member),
            resources=(
                *planned_resources.absent_instances(site, disabled),
                *placement.placed(
                    planned_resources.running_resources(site, instances, running, onion_services, found, remembered),
                    member,
                ),
            ),
            warnings=(*warnings, *warned, *left, *self._standing_warnings(running)),
        )

    def _outside(self, chosen: Collection[str], found: ProjectState) -> list[str]:
        """The stacks that are not in this run, and of which there is an instance or a volume."""
        lying = {volume.name for volume in found.volumes}
        return [
            name
            for name, stack in self.catalogue.items()
            if name not in chosen
            and (name in found.stacks or any(names.volume_name(name, key) in lying for key in stack.volumes))
        ]

    def _standing_warnings(self, running: Collection[str]) -> list[str]:
        """What runs or is allowed that a run says each time."""
        left = [
            f"Stack {name} is software that nobody maintains since {since}: faults in it will not be mended"
            for name in running
            if (since := self.catalogue[name].unmaintained)
        ]
        open_to_all = (item.warning for item in self.site.lan(*running))
        return [*left, *(allowed.warning for allowed in self.site.exceptions(*running)), *filter(None, open_to_all)]

    def _requested_closure(self) -> list[str]:
        """The stacks that are named, those that are enabled with them, and all that these need, in order."""
        proxy = self.site.download_proxy
        named = self.catalogue.closure((*self.request.stacks, *([proxy] if proxy else ())))
        for name in named:
            conditions = self.catalogue[name].enabled_with
            if conditions and not self._is_enabled(name, named):
                raise BcmError(
                    f"Stack {name}",
                    f"is there if {' or '.join(conditions.values())}, which is not so",
                    remedy="set it in the inventory",
                    code="invalid_value",
                )
        while more := [name for name in self.catalogue if name not in named and self._is_enabled(name, named)]:
            named = self.catalogue.closure((*named, *more))
        return self.catalogue.ordered(named)

    def _emptied(
        self,
        affected: Sequence[str],
        named: Collection[str],
        running: Collection[str],
        found: ProjectState,
        chosen: Mapping[str, ChosenImage],
    ) -> list[str]:
        """The neighbours that get another image, and use credentials which only stacks outside of the run make."""
        outside = set(running).difference(affected)
        return [
            name
            for name in affected
            if name not in named
            and self.catalogue.credentials(name, outside)
            and (name not in found.stacks or found.stacks[name].image != chosen[name].image.hash)
        ]

    def _with_neighbours(self, named: Collection[str], emptied: Collection[str], found: ProjectState) -> list[str]:
        """With those of the data center that have to be configured because of these.

        A neighbour keeps the credentials that it has of others, unless it is one of those ``emptied``.
        """
        new, affected, asking = set(named).difference(found.stacks), set(named), {*named, *emptied}
        while more := [
            name
            for name in found.stacks
            if name not in affected
            and (self._is_user(name, affected, new, found) or self._is_used(name, affected & asking, new))
        ]:
            affected = self.catalogue.closure((*affected, *more))
        return self.catalogue.ordered(affected)

    def _is_user(self, name: str, affected: Collection[str], new: Collection[str], found: ProjectState) -> bool:
        """Whether a stack has to know of a new optional need or journal, or gets credentials of one of these."""
        if not found.stacks[name].running:
            return False
        stack = self.catalogue[name]
        appears = any(need.optional and other in new for other, need in stack.needs.items())
        # Whoever reads journals has to know all there are, and each whose journal is read who that is.
        appears |= (stack.reads_journals and bool(new)) or self.catalogue.journal_reader in new
        return appears or bool(self.catalogue.credentials(name, affected))

    def _is_used(self, name: str, asking: Collection[str], new: Collection[str]) -> bool:
        """Whether a stack has to know a new consumer, or makes credentials for one that asks for all that it has."""
        users = asking if self.catalogue[name].makes_credentials else new
        return any(need.services for user in users if (need := self.catalogue[user].needs.get(name)))

    def _is_enabled(self, name: str, affected: Collection[str]) -> bool:
        stack = self.catalogue[name]
        for other in affected if stack.enabled_with else ():
            try:
                if other in stack.enabled_with and self._variables([name, other]).holds(stack.enabled_with[other]):
                    return True
            except BcmError as error:
                raise error.within(f"{stack.source}: enabled_with.{other}") from error
        return False

    def _disabled(self, affected: Collection[str], found: ProjectState) -> list[str]:
        """Those that were enabled once and are no longer, and those that cannot do without them."""
        unwanted = [
            name
            for name in found.stacks
            if name not in affected
            and self.catalogue[name].enabled_with.keys() & set(affected)
            and not self._is_enabled(name, affected)
        ]
        return self.catalogue.ordered(self.catalogue.dependents(unwanted).intersection(found.stacks))[::-1]

    def _instances(
        self,
        affected: Sequence[str],
        running: Collection[str],
        requested: Collection[str],
        onion_services: Sequence[OnionService],
        variables: Variables,
        found: ProjectState,
        chosen: Mapping[str, ChosenImage],
    ) -> tuple[dict[str, Instance], list[str]]:
        """The instances that are to run, and warnings about their limits."""
        instances: dict[str, Instance] = {}
        warnings: list[str] = []
        for name in affected:
            stack, image, release = self.catalogue[name], chosen[name].image, chosen[name].release
            limit, warned = limits.choose_limits(name, stack.limits, self.request.chain, found.host, variables.value)
            warnings += warned
            instances[name] = replace(
                describe(self.site, name, running, name in requested, onion_services, variables),
                limits=limit,
                image=ImageName(image.alias, image.hash),
                artifact=ArtifactFacts(release.source, release.kind, release.name, release.version),
            )
        return instances, warnings

    def _with_left_behind(
        self, instances: Mapping[str, Instance], found: ProjectState, moves: Mapping[str, str]
    ) -> tuple[dict[str, Instance], list[str]]:
        """The instances with the volumes that are deleted once they work with the copies, or warnings about these."""
        behind = {name: volumes.find_left_behind(item, found, moves) for name, item in instances.items()}
        if self.request.move_volumes:
            gone = {name: tuple(planned_resources.absent_volumes(self.site, some)) for name, some in behind.items()}
            return {name: replace(item, left_behind=gone[name]) for name, item in instances.items()}, []
        return dict(instances), [
            f"Volume {volume} was moved and is still there: run again with -e move_volumes=true to delete it"
            for some in behind.values()
            for volume in some
        ]

    def _download_proxy(
        self,
        instances: Mapping[str, Instance],
        running: Collection[str],
        onion_services: Sequence[OnionService],
        found: ProjectState,
        remembered: Mapping[str, str],
        member: Member | None,
    ) -> DownloadProxy | None:
        """What is to be there before images are baked that are fetched through it; None if they come directly."""
        proxy = self.site.download_proxy
        if proxy is None:
            return None
        first = before_others(self.site)
        resources_of_first = placement.placed(
            planned_resources.running_resources(
                self.site,
                {name: instance for name, instance in instances.items() if name in first},
                running,
                onion_services,
                found,
                remembered,
                builders_of=[name for name in instances if name not in first],
            ),
            member,
        )
        return DownloadProxy(
            stack=proxy,
            stacks=tuple(first),
            # What is to be restarted is restarted once, with all the others.
            resources=tuple(
                {**item, "state": "started"} if item["kind"] == "instance" else item for item in resources_of_first
            ),
        )

    # -- down ---------------------------------------------------------------------------------------------------------

    def _down(self, found: ProjectState) -> Plan:
        site = self.site
        affected = self._stacks_to_take_down(found)
        requested = _requested(found)
        running = set(found.stacks).difference(affected)
        instances = {name: describe(site, name, found.stacks, name in requested, [], None) for name in affected}
        onion_services = onions.onion_services(site, running, self._variables(running).holds)
        warnings: list[str] = []
        if self.request.state == "stopped":
            changes = planned_resources.stopped_instances(site, instances)
        else:
            requested.difference_update(affected)
            changes, warnings = planned_resources.removal(site, instances, running, onion_services, found)
            self._check_confirmed(changes)
        return replace(
            self._frame(affected, requested, running),
            instances=instances,
            onions=self._onions(onion_services, _running(found).difference(affected), found),
            summary=self._summary(found.stacks if self.request.state == "stopped" else running, onion_services, None),
            reporters=self._reporters(_running(found).difference(affected)),
            resources=tuple(changes),
            warnings=tuple(warnings),
        )

    def _stacks_to_take_down(self, found: ProjectState) -> list[str]:
        """What was named, what needs it, and what is not needed any more; consumers first."""
        named = self.catalogue.dependents(self.request.stacks)
        stopping = self.request.state == "stopped"
        staying = [
            name
            for name, deployed in found.stacks.items()
            if deployed.requested and name not in named and (deployed.running or not stopping)
        ]
        kept = self.catalogue.closure(staying)
        return self.catalogue.ordered(set(found.stacks).difference(kept))[::-1]

    def _check_confirmed(self, changes: Sequence[Resource]) -> None:
        """Refuse to delete a volume that was not confirmed. Raises BcmError."""
        confirmed = self.request.confirmed_volumes
        doomed = (f"{item['pool']}/{item['name']}" for item in changes if item["kind"] == "storage_volume")
        more = [] if confirmed is None else sorted(set(doomed).difference(confirmed))
        if more:
            raise BcmError(
                ", ".join(more),
                "would be deleted, too, and was not confirmed",
                remedy="nothing was deleted, type it again",
                code="confirmation_needed",
            )

    # -- both ---------------------------------------------------------------------------------------------------------

    def _check_known(self, found: ProjectState) -> None:
        for name in found.stacks:
            if name not in self.catalogue:
                raise BcmError(
                    f"Stack {name}",
                    f"runs in data center {self.request.datacenter} but is not in the catalogue, so its network rules "
                    "would be lost",
                    remedy="add the directory of its folder to bcm_stack_path",
                    code="unknown_name",
                )

    def _frame(self, affected: Sequence[str], requested: Collection[str], running: Collection[str]) -> Plan:
        request, site = self.request, self.site
        return Plan(
            datacenter=request.datacenter,
            chain=request.chain,
            state=request.state,
            project=site.names.project,
            domain=site.names.domain,
            ca_provider=request.provider,
            # where keys are in a file, secrets may be, too
            vault_id=request.datacenter if request.provider == "trezor" else None,
            storage_pool=request.storage_pool,
            network=_subnet(site.names.network, site.subnets.network),
            uplink=_subnet(site.names.uplink, site.subnets.uplink),
            builders=_subnet(site.names.builders, site.subnets.builders),
            requested=tuple(self.catalogue.ordered(requested)),
            stacks=tuple(affected),
            exceptions=tuple(site.exceptions(*running)),
            through_tor=tuple(site.through_tor(*running)),
            instances={},
            onions=Onions(None, (), ()),
            resources=(),
            warnings=(),
            summary=(),
            reporters=(),
        )

    def _onions(self, onion_services: Sequence[OnionService], running: Collection[str], found: ProjectState) -> Onions:
        gateway = self.catalogue.onion_gateway
        return Onions(
            gateway=gateway if gateway in running else None,
            services=tuple(service.published for service in onion_services),
            known=tuple(sorted(found.onions)),
        )

    def _summary(
        self, stacks: Collection[str], onion_services: Sequence[OnionService], variables: Variables | None
    ) -> tuple[StackSummary, ...]:
        return tuple(
            summarize(self.site, name, onion_services, variables) for name in self.catalogue.ordered(stacks)
        )

    def _reporters(self, running: Collection[str]) -> tuple[Reporter, ...]:
        programs = ((name, self.catalogue[name].report_program) for name in self.catalogue.ordered(running))
        return tuple(Reporter(name, str(program)) for name, program in programs if program)

    def _variables(self, stacks: Collection[str]) -> Variables:
        return self._variables_of([self.catalogue[name] for name in self.catalogue.ordered(stacks)])

    def _certificates(self, affected: Collection[str]) -> tuple[Certificate, ...]:
        """One certificate for each stack that has one."""
        site = self.site
        return tuple(
            Certificate(
                name,
                (
                    f"{name}.{site.names.domain}",
                    str(site.addresses[name]),
                    *dict.fromkeys(lan for item in site.lan(name) for lan in (*item.names, item.address)),
                ),
                tuple(site.usage(name)),
            )
            for name in self.catalogue.ordered(affected)
            if site.has_certificate(name)
        )

    def _secrets(self, affected: Collection[str], running: Collection[str]) -> tuple[str, ...]:
        """One secret for each consumer of each service: `<stack>/<service>/<consumer>`; and what is a stack's own."""
        shared = (
            f"{provider}/{service}/{consumer}"
            for consumer, provider, service in self.site.edges(running)
            if (consumer in affected or provider in affected) and not self.catalogue[provider].makes_credentials
        )
        return tuple(sorted((*shared, *(f"{name}/{own}" for name in affected for own in self.catalogue[name].secrets))))


def _running(found: ProjectState) -> set[str]:
    return {name for name, deployed in found.stacks.items() if deployed.running}


def _requested(found: ProjectState) -> set[str]:
    return {name for name, deployed in found.stacks.items() if deployed.requested}


def _subnet(name: str, subnet: IPv4Network) -> Subnet:
    return Subnet(name, str(subnet), str(network.gateway(subnet)))


def _needs_own_steps(instance: Instance) -> bool:
    """Whether it takes more to configure and verify an instance than the steps that all have."""
    has_credentials = bool(instance.credentials) or instance.makes_credentials or bool(instance.level)
    return has_credentials or bool(instance.own_steps) or bool(instance.left_behind)
