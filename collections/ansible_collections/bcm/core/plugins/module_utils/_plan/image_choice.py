# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image of each stack: which of its sources it is made of, what it is called, how its parts are downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from .._artifact.declaration import Release
from .._artifact.download import side_by_side
from .._base import names
from .._base.errors import BcmError
from . import planned_resources
from .checks import Releases, Variables
from .model import Downloads, Image, TakenSource
from .request import ProjectState, Site

#: stack, its image variables and pins, architecture -> hash of the base image, hash of the image
ImageNames = Callable[..., "tuple[str, str]"]
#: release, hash of the image that it would go into -> why it cannot be had now; None if it can
OutOfReach = Callable[[Release, str], "str | None"]


@dataclass(frozen=True)
class _Candidate:
    """A source of a stack, and the image that it would make; or the fault because of which it makes none."""

    release: Release
    image: Image | None
    fault: str = ""
    why: str = ""


@dataclass(frozen=True)
class ChosenImage:
    """The image of a stack, the release that it is made of, and why that one."""

    image: Image
    release: Release
    why: str

    @property
    def source(self) -> TakenSource:
        return TakenSource(self.image.stack, self.release.source, self.why)


@dataclass(frozen=True)
class ImageChooser:
    site: Site
    variables: Variables
    found: ProjectState
    image_names: ImageNames
    out_of_reach: OutOfReach

    def choose(self, releases: Releases) -> dict[str, ChosenImage]:
        """The image of each stack. Raises BcmError."""
        candidates = [self._candidates(name, some) for name, some in releases.items()]
        # Each try may take seconds.
        taken = side_by_side([partial(self._first_in_reach, items) for items in candidates])
        return dict(zip(releases, taken, strict=True))

    def _candidates(self, name: str, releases: Sequence[Release]) -> list[_Candidate]:
        """What an image may be made of, the best first; if one was taken before, that one alone."""
        why = f"the first of {', '.join(release.source for release in releases)}"
        if len(releases) == 1:
            why = f"{names.variable_prefix(name)}_source says so"
        elif (kept := self.found.sources.get(name)) and (same := [r for r in releases if r.source == kept.name]):
            releases, why = same, kept.why
        candidates = []
        for release in releases:
            try:
                candidates.append(_Candidate(release, self._image(name, release), why=why))
            except BcmError as error:
                if release is releases[-1]:
                    raise
                candidates.append(_Candidate(release, None, str(error)))
        return candidates

    def _first_in_reach(self, candidates: Sequence[_Candidate]) -> ChosenImage:
        """The first that can be had. The last needs no try: if it cannot, baking it says why."""
        faults: list[str] = []
        for item in candidates:
            if item.image is None:
                fault: str | None = item.fault
            else:
                fault = None if item is candidates[-1] else self.out_of_reach(item.release, item.image.hash)
                if fault is None:
                    return ChosenImage(item.image, item.release, "; ".join(faults) or item.why)
            faults.append(f"{item.release.source} cannot be had ({fault})")
        raise AssertionError("the last candidate has an image")  # pragma: no cover

    def _image(self, name: str, release: Release) -> Image:
        site, stack, architecture = self.site, self.site.catalogue[name], self.found.architecture
        values: dict[str, Any] = {}
        for key in stack.image_variables:
            values[key] = self.variables.value(key)
            if values[key] is None:
                raise BcmError(
                    f"{stack.source}: image.variables: {key}",
                    "is not set",
                    remedy=f"give it a value in {stack.role_path}/defaults/main.yml or in the inventory",
                    code="invalid_definition",
                )
        has_certificate = site.has_certificate(name)
        services = stack.services.values()
        is_own = any(service.tls for service in services) and not any(service.is_proxied for service in services)
        # An instance that had a proxy is replaced by one that never had it.
        shows = "own" if is_own else has_certificate
        contents = {**values, "artifact": release.pins(architecture), "shows": shows}
        base_hash, digest = self.image_names(stack, contents, architecture)
        return Image(
            stack=name,
            role=stack.role,
            role_path=str(stack.role_path),
            alias=names.image_alias(name, digest),
            hash=digest,
            base_alias=names.image_alias("base", base_hash),
            base_hash=base_hash,
            artifact=release.only(architecture).plain(),
            keys_path=str(stack.artifact.keys_path),
            package=release.package,
            downloads=downloads(site, name),
            version_command=stack.artifact.version_command,
            has_certificate=has_certificate,
            floor=stack.artifact.floor,
            allow_below_floor=name in site.request.allow_below_floor,
        )


def before_others(site: Site) -> list[str]:
    """The stacks that run before others are baked: the proxy of downloads, and what it needs."""
    proxy = site.download_proxy
    return site.catalogue.ordered(site.catalogue.closure([proxy])) if proxy else []


def downloads(site: Site, name: str) -> Downloads | None:
    """How what goes into an image is fetched; None if that is a matter of the machine."""
    proxy = site.download_proxy
    if proxy is None:
        return None
    if name in before_others(site):
        return Downloads(proxy=None)
    socks, tunnel = (f"{site.addresses[proxy]}:{site.download_ports[key]}" for key in ("socks", "tunnel"))
    return Downloads(
        proxy=proxy,
        socks=socks,
        environment=dict.fromkeys(("https_proxy", "HTTPS_PROXY"), f"http://{tunnel}"),
        nic=planned_resources.nic("eth0", site.names.network, site.builders[name]),
    )
