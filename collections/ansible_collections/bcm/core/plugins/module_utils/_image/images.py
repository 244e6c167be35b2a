# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images: find, import, bake, prune. The one entry point for the module ``image``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NotRequired, TypedDict

from .._base.errors import BcmError
from .._base.locks import Busy, raise_busy
from .._lxd.client import Client
from . import bake, base, endpoint_images
from .cache import Cache, Entry
from .endpoint_images import EndpointImage
from .hash import base_hash
from .sources import check_in_reach_of_tor

_WORKERS = 4
#: seconds between two looks at the work of another run
_LOOK = 0.5
_DAY = 86400.0


class Image(TypedDict):
    """What is read here of an image of a plan."""

    stack: str
    alias: str
    hash: str
    base_hash: str
    artifact: Mapping[str, Any]
    version_command: list[str]
    floor: Mapping[str, Any] | None
    allow_below_floor: bool
    downloads: NotRequired[Mapping[str, Any] | None]
    #: of one that is published: the names of those who signed it, and the digests of what was fetched for it
    signers: NotRequired[Sequence[str] | None]
    digests: NotRequired[Sequence[str]]


@dataclass
class Images:
    """The images of one endpoint and of the controller's disk.

    ``notify`` gets a line for a person when something takes time.
    """

    client: Client
    cache: Cache
    settings: Mapping[str, Any]
    notify: Callable[[str], None]

    def __post_init__(self) -> None:
        self._architecture: str = self.client.server["environment"]["kernel_architecture"]
        self.base_hash = base_hash(self.settings, self._architecture)
        self.base_alias = f"bcm/base/{self.base_hash[:12]}"

    # -- present ------------------------------------------------------------------------------------------------------

    def present(self, images: Sequence[Image], *, with_base: bool = False, check: bool = False) -> dict[str, Any]:
        """Copy images to where they are missing, endpoint or disk cache; also the base if something is to be baked.

        ``with_base`` asks for the base in any case. The result's ``missing`` are the images to bake.
        """
        for image in images:
            if image["base_hash"] != self.base_hash:
                raise BcmError(
                    f"Image of {image['stack']}:",
                    "planned over another base;",
                    "plan and image need the same image_*",
                    code="invalid_value",
                )
        if any((image.get("downloads") or {}).get("proxy") for image in images):
            check_in_reach_of_tor(self.settings)
        there = endpoint_images.list_images(self.client)
        warnings = self._check_floors(images, there)
        cached = {image["hash"]: self.cache.get(image["hash"]) for image in images}
        absent = [image for image in images if image["hash"] not in there]
        missing = [image for image in absent if cached[image["hash"]] is None]
        needs_base = (bool(missing) or with_base) and self.base_hash not in there
        uncached = [i for i in images if i["hash"] in there and cached[i["hash"]] is None]
        unnamed = [i for i in images if i["hash"] in there and i["alias"] not in there[i["hash"]].aliases]
        result: dict[str, Any] = {
            "base": self.base_alias,
            "missing": [dict(image) for image in missing],
            "imported": [image["alias"] for image in absent if image not in missing],
            "changed": bool(absent or unnamed or needs_base),
            "warnings": warnings,
        }
        if check:
            return result
        if self.base_hash in there and self.base_alias not in there[self.base_hash].aliases:
            endpoint_images.ensure_alias(self.client, self.base_alias, there[self.base_hash].fingerprint)
        for image in unnamed:
            endpoint_images.ensure_alias(self.client, image["alias"], there[image["hash"]].fingerprint)
        for project, name in bake.abandoned(self.client):
            self.notify(f"builder {name}: left behind by a run that ended, removed")
            bake.discard(self.client, name, project)
        work: list[Callable[[], None]] = [
            *([self._ensure_base] if needs_base else []),
            *(partial(self._import, image) for image in absent if image not in missing),
            *(partial(self._keep, image, there, warnings) for image in uncached),
        ]
        self._run(work)
        result["changed"] = bool(result["imported"] or needs_base or unnamed)
        return result

    def _ensure_base(self) -> None:
        with self.cache.lock(self.base_hash, lambda: self.notify("base image: another run is making it, waiting")):
            there = endpoint_images.list_images(self.client).get(self.base_hash)
            if there is not None:
                endpoint_images.ensure_alias(self.client, self.base_alias, there.fingerprint)
                return
            entry = self.cache.get(self.base_hash) or self._make_base()
            endpoint_images.import_image(self.client, self.cache, entry)

    def _make_base(self) -> Entry:
        properties = self._properties("base", self.base_hash, "")
        with self.cache.draft(self.base_hash) as draft:
            files = base.build(self.settings, self._architecture, properties, draft, self.notify)
            entry = Entry(self.base_hash, self.base_alias, base.fingerprint(draft, files), files, properties)
            return self.cache.commit(draft, entry)

    def _import(self, image: Image) -> None:
        with self.cache.lock(image["hash"]):
            there = endpoint_images.list_images(self.client).get(image["hash"])
            entry = self.cache.get(image["hash"])
            if there is not None:
                endpoint_images.ensure_alias(self.client, image["alias"], there.fingerprint)
            elif entry is not None:
                started = time.monotonic()
                endpoint_images.import_image(self.client, self.cache, entry)
                # a stack of the same contents may have made it
                if entry.alias != image["alias"]:
                    endpoint_images.ensure_alias(self.client, image["alias"], entry.fingerprint)
                self.notify(f"image {image['stack']}: from the disk cache, {time.monotonic() - started:.1f} s")

    def _keep(self, image: Image, there: Mapping[str, EndpointImage], warnings: list[str]) -> None:
        with self.cache.lock(image["hash"]):
            if self.cache.get(image["hash"]) is None:
                self._cached(there[image["hash"]], image, warnings)

    # -- bake ---------------------------------------------------------------------------------------------------------

    def build(self, image: Image, network: str, storage_pool: str, target: str | None = None) -> str:
        """Start the builder of an image; returns its name, empty if another run of this machine has baked it now."""
        if self._is_baked_by_another(image):
            return ""
        name = bake.builder_name(image["stack"], image["hash"])
        started = time.monotonic()
        suites = filter(None, [image["artifact"]["suite"]])
        # If Tor is its only way out, the plan has its network interface.
        way = image.get("downloads") or {}
        nic = way.get("nic") or bake.plain_nic(network)
        options = {"socks": way.get("socks"), "target": target}
        bake.start(self.client, name, self.base_alias, nic, storage_pool, self.settings, suites, **options)
        self.notify(f"image {image['stack']}: builder ready, {time.monotonic() - started:.1f} s")
        return name

    def _is_baked_by_another(self, image: Image) -> bool:
        """Wait while another run of this machine bakes an image, and take what it has made.

        False means that there is nothing to take; other runs wait for this one from now on.
        """
        this, end = bake.this_run(), time.monotonic() + bake.BAKE_LIMIT
        is_said = False
        while True:
            with self.cache.lock(image["hash"]):
                is_there = self.cache.get(image["hash"]) is not None
                baker = self.cache.baker(image["hash"])
                is_baking = baker != this and bool(bake.is_running_here(baker)) and time.monotonic() < end
                if not (is_there or is_baking):
                    self.cache.set_baker(image["hash"], this)
                    return False
            if is_there:
                self._import(image)
                return True
            if not is_said:
                self.notify(f"image {image['stack']}: another run is baking it, waiting")
                is_said = True
            time.sleep(_LOOK)

    def publish(self, image: Image) -> dict[str, Any]:
        """Make the image of a finished builder, keep it on disk, and delete the builder."""
        name = bake.builder_name(image["stack"], image["hash"])
        warnings: list[str] = []
        with self.cache.lock(image["hash"]):
            there = endpoint_images.list_images(self.client).get(image["hash"])
            if there is None:
                started = time.monotonic()
                version = str(image["artifact"]["version"] or "")
                if image["version_command"]:
                    version = bake.version(self.client, name, image["stack"], image["version_command"])
                self._check_floor(image, version, warnings)
                bake.finish(self.client, name)
                properties = self._properties(image["stack"], image["hash"], version)
                properties["bcm.artifact"] = _made_of(image, version)
                endpoint_images.publish_image(self.client, name, image["alias"], properties)
                there = endpoint_images.list_images(self.client)[image["hash"]]
                self._cached(there, image, warnings)
                self.notify(
                    f"image {image['stack']} {version}: published, {there.size / 1e6:.0f} MB, "
                    f"{time.monotonic() - started:.1f} s"
                )
            self.cache.set_baker(image["hash"], "")
            endpoint_images.ensure_alias(self.client, image["alias"], there.fingerprint)
            bake.discard(self.client, name)
        return {"changed": True, "version": there.version, "fingerprint": there.fingerprint, "warnings": warnings}

    def _cached(self, there: EndpointImage, image: Image, warnings: list[str]) -> None:
        try:
            endpoint_images.save_image(self.client, self.cache, there, image["alias"])
        except OSError as error:
            # The endpoint has it; without a copy, only a second data center takes longer.
            warnings.append(f"Image of {image['stack']}: not kept below {self.cache.root}: {error.strerror}")

    def _properties(self, stack: str, image_hash: str, version: str) -> dict[str, str]:
        return {
            "bcm.hash": image_hash,
            "bcm.stack": stack,
            "bcm.version": version,
            "description": f"Bitcoin Cache Machine: {stack} {version}".rstrip(),
        }

    def _check_floors(self, images: Iterable[Image], there: Mapping[str, EndpointImage]) -> list[str]:
        warnings: list[str] = []
        for image in images:
            if image["hash"] in there:
                self._check_floor(image, there[image["hash"]].version, warnings)
            elif (entry := self.cache.get(image["hash"])) is not None:
                self._check_floor(image, entry.properties["bcm.version"], warnings)
        return warnings

    def _check_floor(self, image: Image, version: str, warnings: list[str]) -> None:
        wrong = bake.below_floor(image["stack"], version, image["floor"])
        if wrong and not image["allow_below_floor"]:
            raise BcmError(
                wrong, remedy=f"install a later one, or name {image['stack']} in allow_below_floor", code="below_floor"
            )
        if wrong:
            warnings.append(f"{wrong}; allowed by allow_below_floor")

    # -- list and prune -----------------------------------------------------------------------------------------------

    def list(self) -> list[dict[str, Any]]:
        """Every image of ours, at the endpoint, on the disk, or both."""
        there = endpoint_images.list_images(self.client)
        cached = {entry.hash: entry for entry in self.cache.entries()}
        used = endpoint_images.image_users(self.client)
        found = []
        for image_hash in sorted(there.keys() | cached.keys()):
            at_endpoint, on_disk = there.get(image_hash), cached.get(image_hash)
            properties = on_disk.properties if on_disk else {}
            found.append(
                {
                    "hash": image_hash,
                    "stack": at_endpoint.stack if at_endpoint else properties.get("bcm.stack", ""),
                    "version": at_endpoint.version if at_endpoint else properties.get("bcm.version", ""),
                    "endpoint_size": at_endpoint.size if at_endpoint else 0,
                    "cache_size": on_disk.size if on_disk else 0,
                    "used_by": used.get(at_endpoint.fingerprint, []) if at_endpoint else [],
                }
            )
        return sorted(found, key=lambda item: (item["stack"] != "base", item["stack"], item["hash"]))

    def prune(self, images: Iterable[Image], older_than: float, *, check: bool = False) -> dict[str, Any]:
        """Delete images that no instance and none of ``images`` use; from the disk cache after ``older_than`` days."""
        there = endpoint_images.list_images(self.client)
        wanted = {self.base_hash, *(image["hash"] for image in images)}
        doomed = unused(there.values(), endpoint_images.image_users(self.client), wanted)
        kept = wanted | (there.keys() - {image.hash for image in doomed})
        old = [
            image_hash
            for image_hash in sorted(self.cache.hashes() - kept)
            if self.cache.get(image_hash) is None or self.cache.used(image_hash) >= older_than * _DAY
        ]
        entries = {image_hash: self.cache.get(image_hash) for image_hash in old}
        if not check:
            self._run([partial(endpoint_images.delete_image, self.client, image.fingerprint) for image in doomed])
            old = [image_hash for image_hash in old if self._forget(image_hash)]
        gone = [entry for image_hash in old if (entry := entries[image_hash]) is not None]
        return {
            "changed": bool(doomed or gone),
            "endpoint": [_named(image.stack, image.hash) for image in doomed],
            "cache": [_named(entry.properties.get("bcm.stack", ""), entry.hash) for entry in gone],
            "freed": sum(image.size for image in doomed) + sum(entry.size for entry in gone),
        }

    def _forget(self, image_hash: str) -> bool:
        try:
            with self.cache.lock(image_hash, raise_busy):
                self.cache.forget(image_hash)
        except Busy:
            return False
        return True

    def _run(self, work: Sequence[Callable[[], None]]) -> None:
        """Run it in parallel; raises the first error after everything has ended."""
        if not work:
            return
        with ThreadPoolExecutor(_WORKERS) as pool:
            futures = [pool.submit(item) for item in work]
        for future in futures:
            try:
                future.result()
            except OSError as error:
                raise BcmError(f"Images below {self.cache.root}:", error.strerror or error, code="io_error") from error


def unused(
    images: Iterable[EndpointImage], used: Mapping[str, Sequence[str]], keep: Collection[str]
) -> list[EndpointImage]:
    """Return the images that no instance was created from and no plan needs."""
    return [image for image in images if image.hash not in keep and not used.get(image.fingerprint)]


def _made_of(image: Image, version: str) -> str:
    """Return the contents of an image and their signers, as JSON, for the bill of materials."""
    artifact = image["artifact"]
    pinned = [pin["digest"] for pin in artifact["files"].values()]
    unfetched = artifact["sha256"] or (artifact["go"] or {}).get("sum")
    return json.dumps(
        {
            **{key: artifact[key] for key in ("source", "kind", "name", "licence")},
            "version": artifact["version"] or version,
            "digest": [*pinned, *image.get("digests", []), unfetched][0],
            "signers": list(image.get("signers") or []),
        }
    )


def _named(stack: str, image_hash: str) -> str:
    return f"bcm/{stack or 'image'}/{image_hash[:12]}"
