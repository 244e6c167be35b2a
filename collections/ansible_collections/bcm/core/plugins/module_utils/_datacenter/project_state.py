# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the plan needs to know about the endpoint: the data center's project, names of images, unreachable releases."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._artifact.artifacts import Artifacts
from .._artifact.declaration import Release
from .._base.errors import BcmError
from .._image.bake import is_left
from .._image.cache import Cache
from .._image.endpoint_images import list_images
from .._image.hash import base_hash, image_hash
from .._lxd.client import quoted
from .._lxd.resources import MOVED_TO, REPLACED
from .._plan.catalogue import ROLES
from .._plan.image_choice import ImageNames, OutOfReach
from .._plan.limits import Host
from .._plan.request import Deployed, Member, ProjectState, Site, Source, Volume, read_versions
from .._plan.stack import Stack
from .identity import IDENTITY_MARK, KEPT_MARK, ONIONS_MARK, SECRETS_MARK

if TYPE_CHECKING:
    from .._lxd.client import Client


def image_namer(settings: Mapping[str, Any]) -> ImageNames:
    """Hashes of a stack's base image and image, for an architecture."""
    base_of = functools.cache(lambda architecture: base_hash(settings, architecture))

    def name(stack: Stack, variables: Mapping[str, Any], architecture: str) -> tuple[str, str]:
        base = base_of(architecture)
        # what roles/_common puts into every image
        home = next((volume.path for volume in stack.volumes.values()), None)
        frame = {"stack": stack.name, "user": stack.user, "home": home, "packet_filter": stack.uplink is not None}
        values = {**variables, **frame}
        return base, image_hash(base, str(stack.role_path), str(ROLES / "_common"), values, architecture)

    return name


def out_of_reach(client: Client, artifacts: Artifacts) -> OutOfReach:
    """Return why a release cannot be downloaded, if its image has to be baked; nothing if the image exists."""

    def fault(release: Release, image: str) -> str | None:
        if image in list_images(client) or Cache().get(image) is not None:
            return None
        found = artifacts.out_of_reach(release)
        if found:
            artifacts.notify(f"{release.stack}: its source {release.source} is out of reach: {found}")
        return found

    return fault


def _host(resources: Mapping[str, Any]) -> Host:
    memory, processors = (resources.get(key, {}).get("total", 0) for key in ("memory", "cpu"))
    return Host(memory=memory, processors=processors)


def _members(client: Client) -> tuple[Member, ...]:
    """Return the members of the endpoint's cluster; none without a cluster."""
    if not client.server["environment"].get("server_clustered"):
        return ()
    members = []
    for item in client.get("/1.0/cluster/members", recursion=1, project=None):
        name = item["server_name"]
        found: Mapping[str, Any] = {}
        if item["status"] == "Online":
            found = client.find("/1.0/resources", project=None, target=name) or {}
        memory = found.get("memory", {})
        members.append(Member(name, memory["total"] - memory["used"] if memory else None, _host(found)))
    return tuple(members)


def _location(item: Mapping[str, Any]) -> str | None:
    """Return the member of a cluster that has an instance or a volume."""
    return item.get("location") if item.get("location") not in ("", "none") else None


def read_project_state(client: Client, site: Site) -> ProjectState:
    """Read the data center's project; it is empty if it does not exist yet. Raises BcmError and LxdError."""
    project, request = site.names.project, site.request
    architecture: str = client.server["environment"]["kernel_architecture"]
    there = client.find(f"/1.0/projects/{project}", project=None)
    members = _members(client) if request.brings_up else ()
    host = _host(client.find("/1.0/resources", project=None) or {}) if request.brings_up else Host()
    if there is None:
        return ProjectState(architecture=architecture, host=host, members=members)
    if there["config"].get("user.bcm.datacenter") != request.datacenter:
        raise BcmError(
            f"Project {project}",
            f"exists on {client.endpoint.name} but was not made by BCM",
            "rename it, or choose another name for the data center",
            code="conflict",
        )
    stacks: dict[str, Deployed] = {}
    builders, left_builders, foreign_instances = [], [], []
    for instance in client.get("/1.0/instances", recursion=1, project=project):
        name, config = instance["name"], instance["config"]
        stack = config.get("user.bcm.stack")
        deployed = Deployed(
            requested=config.get("user.bcm.requested") == "true",
            running=instance["status"] == "Running",
            image=config.get("image.bcm.hash", ""),
            location=_location(instance),
        )
        if "user.bcm.builder" in config:
            builders.append(name)
            left_builders += [name] if is_left(instance) else []
        elif stack and REPLACED in config:
            stacks.setdefault(stack, deployed)
        elif stack == name:
            stacks[name] = deployed
        else:
            foreign_instances.append(name)
    own = there["config"] if there["config"].get(IDENTITY_MARK) == request.identity else {}
    return ProjectState(
        host=host,
        members=members,
        stacks=stacks,
        builders=builders,
        left_builders=left_builders,
        foreign_instances=foreign_instances,
        volumes=_volumes(client, site),
        sources=Source.read(there["config"]),
        versions=read_versions(there["config"]),
        kept=own[KEPT_MARK].split(",") if KEPT_MARK in own else (),
        onions=own[ONIONS_MARK].split(",") if ONIONS_MARK in own else (),
        secrets=own[SECRETS_MARK].split(",") if SECRETS_MARK in own else (),
        architecture=architecture,
    )


def _volumes(client: Client, site: Site) -> list[Volume]:
    """Return custom volumes of the project in all pools, since the setting may have changed."""
    pools = [pool["name"] for pool in client.get("/1.0/storage-pools", recursion=1, project=None)]
    return [
        Volume(
            pool,
            volume["name"],
            tuple(f"{key}={value}" for key, value in site.owner.items() if volume["config"].get(key) != value),
            volume["config"].get(MOVED_TO),
            _location(volume),
        )
        for pool in pools
        for volume in client.get(
            f"/1.0/storage-pools/{quoted(pool)}/volumes/custom", recursion=1, project=site.names.project
        )
        if "/" not in volume["name"]  # a snapshot goes with its volume
    ]
