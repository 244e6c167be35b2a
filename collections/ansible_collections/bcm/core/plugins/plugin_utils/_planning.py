# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the action `plan` brings to the pure plan: variables of roles, and what the endpoint has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.template import trust_as_template

from ..module_utils._artifact.artifacts import Artifacts
from ..module_utils._artifact.declaration import Release
from ..module_utils._base.errors import BcmError
from ..module_utils._datacenter.identity import IDENTITY_MARK, KEPT_MARK, ONIONS_MARK
from ..module_utils._image.cache import Cache
from ..module_utils._image.endpoint_images import stored
from ..module_utils._image.hash import base_hash, image_hash
from ..module_utils._lxd.client import quoted
from ..module_utils._lxd.resources import MOVED_TO, REPLACED
from ..module_utils._plan.catalogue import ROLES, Stack
from ..module_utils._plan.limits import Host
from ..module_utils._plan.plan import OutOfReach
from ..module_utils._plan.request import Deployed, Found, Site, Source, Volume
from ._action import plain

if TYPE_CHECKING:
    from ansible.parsing.dataloader import DataLoader
    from ansible.template import Templar

    from ..module_utils._lxd.client import Client


class RoleVariables:
    """Defaults of roles under the variables of the play, templated as the roles themselves will see them."""

    def __init__(
        self, templar: Templar, loader: DataLoader, stacks: Sequence[Stack], play_variables: Mapping[str, Any]
    ) -> None:
        variables: dict[str, Any] = {}
        for stack in stacks:
            variables.update(_read(loader, stack, "defaults/main.yml"))
        self._variables = {**variables, **play_variables}
        self._templar = templar.copy_with_new_env(available_variables=self._variables)
        self._loader = loader

    def value(self, name: str) -> Any:
        if name not in self._variables:
            return None
        return self._templated(lambda: self._templar.template(self._variables[name]), f"variable {name}")

    def check(self, stack: Stack) -> None:
        specs = _read(self._loader, stack, "meta/argument_specs.yml").get("argument_specs") or {}
        options = {name: option for entry in specs.values() for name, option in (entry.get("options") or {}).items()}
        given: dict[str, Any] = {}
        for name in options:
            # What says more of its instance than a plan knows is left to the role.
            with contextlib.suppress(BcmError):
                given[name] = self.value(name)
        given = {name: value for name, value in given.items() if value is not None}
        checkable = {name: option for name, option in options.items() if name in given or name not in self._variables}
        checked = ArgumentSpecValidator(checkable).validate(given)
        if checked.error_messages:
            raise BcmError(
                f"Variables of {stack.name}:",
                "; ".join(checked.error_messages),
                "correct the inventory",
                code="invalid_value",
            )

    def holds(self, condition: str) -> bool:
        return bool(
            self._templated(lambda: self._templar.evaluate_conditional(trust_as_template(condition)), condition)
        )

    def text(self, template: str) -> str:
        return str(self._templated(lambda: self._templar.template(trust_as_template(template)), template))

    def _templated(self, evaluate: Callable[[], Any], what: str) -> Any:
        try:
            return plain(evaluate())
        except AnsibleError as error:
            raise BcmError(what, f"cannot be evaluated: {error}", code="invalid_value") from error


def _read(loader: DataLoader, stack: Stack, name: str) -> Mapping[str, Any]:
    path = stack.role_path / name
    if not path.is_file():
        return {}
    try:
        found = loader.load_from_file(str(path), trusted_as_template=True)
    except AnsibleError as error:
        raise BcmError(path, f"cannot be read: {error}", code="io_error") from error
    if not isinstance(found, Mapping):
        raise BcmError(path, "is no mapping", "write `variable: value` lines", code="invalid_value")
    return found


def image_namer(
    settings: Mapping[str, Any], architecture: str
) -> Callable[[Stack, Mapping[str, Any]], tuple[str, str]]:
    """Hashes of a stack's base image and image, for the endpoint's architecture."""
    base = base_hash(settings, architecture)

    def name(stack: Stack, variables: Mapping[str, Any]) -> tuple[str, str]:
        return base, image_hash(base, str(stack.role_path), str(ROLES / "_common"), variables, architecture)

    return name


def out_of_reach(client: Client, artifacts: Artifacts) -> OutOfReach:
    """What keeps a release from being had, if its image has to be baked; nothing if the image is there already."""

    def fault(release: Release, image: str) -> str | None:
        if image in stored(client) or Cache().get(image) is not None:
            return None
        found = artifacts.out_of_reach(release)
        if found:
            artifacts.notify(f"{release.stack}: its source {release.source} is out of reach: {found}")
        return found

    return fault


def _host(client: Client) -> Host:
    found = client.find("/1.0/resources", project=False) or {}
    memory, processors = (found.get(key, {}).get("total", 0) for key in ("memory", "cpu"))
    return Host(memory=memory, processors=processors)


def read_found(client: Client, site: Site) -> Found:
    """What the data center's project holds; nothing if there is no such project yet. Raises BcmError and LxdError."""
    project, request = site.names.project, site.request
    architecture: str = client.server["environment"]["kernel_architecture"]
    there = client.find(f"/1.0/projects/{project}", project=False)
    host = _host(client) if request.brings_up else Host()
    if there is None:
        return Found(architecture=architecture, host=host)
    if there["config"].get("user.bcm.datacenter") != request.datacenter:
        raise BcmError(
            f"Project {project}",
            f"exists on {client.endpoint.name} but was not made by BCM",
            "rename it, or choose another name for the data center",
            code="conflict",
        )
    stacks: dict[str, Deployed] = {}
    builders, strangers = [], []
    for instance in client.get("/1.0/instances", recursion=1, project=project):
        name, config = instance["name"], instance["config"]
        stack = config.get("user.bcm.stack")
        requested, running = config.get("user.bcm.requested") == "true", instance["status"] == "Running"
        if "user.bcm.builder" in config:
            builders.append(name)
        elif stack and REPLACED in config:
            stacks.setdefault(stack, Deployed(requested=requested, running=running))
        elif stack == name:
            stacks[name] = Deployed(requested=requested, running=running)
        else:
            strangers.append(name)
    own = there["config"] if there["config"].get(IDENTITY_MARK) == request.identity else {}
    return Found(
        host=host,
        stacks=stacks,
        builders=builders,
        strangers=strangers,
        volumes=_volumes(client, site),
        sources=Source.read(there["config"]),
        kept=own[KEPT_MARK].split(",") if KEPT_MARK in own else (),
        onions=own[ONIONS_MARK].split(",") if ONIONS_MARK in own else (),
        architecture=architecture,
    )


def _volumes(client: Client, site: Site) -> list[Volume]:
    """Custom volumes of the project, in all pools, for the setting may have changed since."""
    pools = [pool["name"] for pool in client.get("/1.0/storage-pools", recursion=1, project=False)]
    return [
        Volume(
            pool,
            volume["name"],
            tuple(f"{key}={value}" for key, value in site.owner.items() if volume["config"].get(key) != value),
            volume["config"].get(MOVED_TO),
        )
        for pool in pools
        for volume in client.get(
            f"/1.0/storage-pools/{quoted(pool)}/volumes/custom", recursion=1, project=site.names.project
        )
        if "/" not in volume["name"]  # a snapshot goes with its volume
    ]
