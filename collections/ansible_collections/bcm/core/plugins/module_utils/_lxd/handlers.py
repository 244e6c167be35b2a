# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handler of each kind, and how those that are not like most are read, compared and changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .._base import change_count
from .._base.disk import draft
from .._base.read import read_moment
from . import image_transfer
from .client import Client, Operation, quoted
from .handler_base import READ, Body, Handler, Step, deleted_meanwhile
from .instance_handler import InstanceHandler, writable_fields
from .lxd_errors import Conflict, LxdError, NotFound
from .resources import COPY_SUFFIX, MOVED_TO, Resource

#: Keys of a network and their defaults.
_USUAL = {"ipv4.firewall": "true", "ipv6.firewall": "true", "dns.mode": "managed"}
_FILTERS = ("security.mac_filtering", "security.ipv4_filtering", "security.ipv6_filtering")
_CHUNK = 1024 * 1024
#: of what members of a cluster know of, and is not on all of them
_UNFINISHED = ("Pending", "Errored")
#: where a server that is in no cluster says that something is
_NO_CLUSTER = ["none"]
#: types of networks that are not made on each member
_OF_ALL = ("ovn",)
#: When the file to which a backup is exported was written; None if there is none.
EXPORTED = f"{READ}exported"
#: True for a network whose interface does not exist on its host.
VANISHED = f"{READ}vanished"


class ClusteredHandler(Handler):
    """Handler of what is on each member of a cluster: it is announced for each one, and then made on all.

    What only some members know of is unfinished, and is made again.
    """

    #: keys of the configuration that each member has its own of
    own_keys: frozenset[str] = frozenset()

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        states = {resource.name: resource.state for resource in resources}
        bodies = super().read_all(client, resources)
        return {
            name: body
            for name, body in bodies.items()
            if states.get(name) == "absent" or body.get("status") not in _UNFINISHED
        }

    def desired_value(self, resource: Resource, body: Body, name: str) -> Any:
        value = super().desired_value(resource, body, name)
        if name == "config" and (body.get("locations") or _NO_CLUSTER) != _NO_CLUSTER and not resource.target:
            # the server neither tells nor takes here what each member has of its own
            return {key: wanted for key, wanted in value.items() if key not in self.own_keys}
        return value

    def do_create(self, client: Client, resource: Resource, step: Step) -> None:
        if resource.target or not client.server["environment"].get("server_clustered"):
            super().do_create(client, resource, step)
            return
        body = {resource.kind.key: resource.name, **resource.given}
        config = body.pop("config", None) or {}
        own = {key: value for key, value in config.items() if key in self.own_keys}
        common = {key: value for key, value in config.items() if key not in own}
        found = self.read(client, resource)[0] or {}
        if body.get("type") not in _OF_ALL:
            for member in client.get("/1.0/cluster/members", project=None, recursion=1):
                name = member["server_name"]
                if name not in (found.get("locations") or ()):
                    announced = {**body, "config": own}
                    self.call(client, resource, "announce", "POST", resource.collection, announced, target=name)
        self.call(client, resource, "create", "POST", resource.collection, {**body, "config": common})
        # LXD 5.0 forgets the description in a cluster
        self.complete(client, resource)


class StoragePoolHandler(ClusteredHandler):
    """Handler of storage pools."""

    own_keys = frozenset(
        {"size", "source", "volatile.initial_source", "zfs.pool_name", "lvm.thinpool_name", "lvm.vg_name"}
    )


class NetworkHandler(ClusteredHandler):
    """Handler of networks, which can be set up again on their host, with the filters of the devices on them.

    The API has no request for it. The server does it when a key changes, so a key is set to its default, and back.
    """

    own_keys = frozenset({"bridge.external_interfaces", "parent", "bgp.ipv4.nexthop", "bgp.ipv6.nexthop"})

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        bodies = super().read_all(client, resources)
        for resource in resources:
            if resource.name in bodies and resource.state == "present":
                bodies[resource.name][VANISHED] = _has_vanished(client, resource, bodies[resource.name])
        return bodies

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        result = super().steps(resource, body)
        if body is not None and (resource.state == "reloaded" or (resource.state == "present" and body.get(VANISHED))):
            lost = {"on the host": "gone"} if body.get(VANISHED) else {}
            result.append(Step("reload", lost, {"on the host": "set up again"}))
        return result

    def do_reload(self, client: Client, resource: Resource, step: Step) -> None:
        body = self.read(client, resource)[0]
        if body is None:
            raise deleted_meanwhile("reload", resource)
        key = next((key for key, usual in _USUAL.items() if body["config"].get(key, usual) == usual), None)
        if key is None:
            raise LxdError(
                f"Failed to reload {resource.label}",
                remedy=f"unset one of {', '.join(_USUAL)}, or restart the server",
                code="server_error",
                about=resource.label,
            )
        # A check whether this was done asks for the network's own rules, so they come last. What was connected to an
        # interface that is gone is connected again when it is restarted.
        for path in [] if _has_vanished(client, resource, body) else body["used_by"] or ():
            if path.startswith("/1.0/instances/"):
                self._reload_filters(client, resource, path)
        there = body["config"].get(key, "")
        for value in ("" if there else _USUAL[key], there):
            # A PATCH of LXD 5.0 forgets the description.
            wanted = {"description": body.get("description", ""), "config": {**body["config"], key: value}}
            self.call(client, resource, "reload", "PUT", resource.path, wanted)

    def _reload_filters(self, client: Client, resource: Resource, used_by: str) -> None:
        """Have the server write the filters of devices again, which it does when the option is set again.

        A run that is killed in between leaves a filter off. The next one turns it on: the option differs from the plan.
        """
        url = urlsplit(used_by)
        project = parse_qs(url.query).get("project", ["default"])[0]
        body = client.get(url.path, project=project)
        devices = body["devices"]
        for name, device in devices.items():
            key = next((key for key in _FILTERS if device.get(key) == "true"), None)
            if device.get("network") == resource.name and key:
                for value in ("false", "true"):
                    changed = {**writable_fields(body), "devices": {**devices, name: {**device, key: value}}}
                    what = f"reload the filter of {name} in {url.path.rpartition('/')[2]}"
                    client.call("PUT", url.path, changed, what=what, project=project)


def _has_vanished(client: Client, resource: Resource, body: Body) -> bool:
    """Whether the interface of a bridge does not exist on its host, whatever the server believes."""
    if not body.get("managed") or body.get("type") != "bridge" or body.get("status") != "Created":
        return False
    where = {"target": resource.target} if resource.target else {}
    return client.find(f"{resource.path}/state", project=resource.project, **where) is None


class ProjectHandler(Handler):
    """Handler of projects. LXD 5.0 deletes a project that has volumes, which then cannot be found any more."""

    def do_delete(self, client: Client, resource: Resource, step: Step) -> None:
        body = self.read(client, resource)[0]
        held = [] if body is None else sorted({*_users(resource, body), *_volumes(client, resource, body)})
        if held:
            raise Conflict(
                f"Failed to delete {resource.label}:",
                f"it holds {', '.join(held)}",
                "delete these first",
                about=resource.label,
            )
        super().do_delete(client, resource, step)


def _users(resource: Resource, body: Body) -> Iterator[str]:
    for path in body.get("used_by") or ():
        parts = urlsplit(path).path.removeprefix("/1.0/").split("/")
        if parts[0] == "storage-pools" or (parts[0] == "profiles" and parts[-1] == "default"):
            continue
        yield f"{parts[0].removesuffix('s').replace('-', ' ')} {'/'.join(parts[1:])}"


def _volumes(client: Client, resource: Resource, body: Body) -> Iterator[str]:
    for feature, what, path in (
        ("features.storage.volumes", "storage volume", "volumes/custom"),
        ("features.storage.buckets", "storage bucket", "buckets"),
    ):
        if body["config"].get(feature) != "true":
            continue
        for pool in client.get("/1.0/storage-pools", project=None, recursion=1):
            with contextlib.suppress(NotFound):
                for item in client.get(f"/1.0/storage-pools/{quoted(pool['name'])}/{path}", project=resource.name,
                                       recursion=1):  # fmt: skip
                    if "/" not in item["name"]:
                        yield f"{what} {pool['name']}/{item['name']}"


class VolumeHandler(Handler):
    """A volume can be moved here from another pool.

    It is copied under another name first, and the former volume is marked when the copy is complete. So whatever is
    killed meanwhile, a volume that has the name is whole, and one that has the mark is not the newest.
    """

    def do_create(self, client: Client, resource: Resource, step: Step) -> None:
        source = resource.given.get("source")
        if source is None:
            super().do_create(client, resource, step)
            return
        former = f"/1.0/storage-pools/{quoted(source['pool'])}/volumes/custom/{quoted(resource.name)}"
        copy = f"{resource.path}{COPY_SUFFIX}"
        body = client.find(former, project=resource.project)
        if body is None:
            raise client.not_found(
                f"Failed to copy {resource.label}: there is none in storage pool {source['pool']}", resource.project
            )
        pool = resource.parents["pool"]
        self._settle_copies(client, resource)
        found = client.find(copy, project=resource.project)
        if found is None or body["config"].get(MOVED_TO) != pool:
            if found is not None:
                self.call(client, resource, "delete an incomplete copy of", "DELETE", copy)
            origin = {"type": "copy", "pool": source["pool"], "name": resource.name}
            wanted = {"name": resource.name + COPY_SUFFIX, "type": "custom", "source": origin}
            self.call(client, resource, "copy", "POST", resource.collection, wanted, target=resource.target)
            marked = {"description": body["description"], "config": {**body["config"], MOVED_TO: pool}}
            self.call(client, resource, "mark the former", "PUT", former, marked)
        self.call(client, resource, "rename the copy of", "POST", copy, {"name": resource.name})
        self.complete(client, resource)

    def _settle_copies(self, client: Client, resource: Resource) -> None:
        """Wait for copies of volumes that a run which was killed began; such an operation names no resource."""
        for states in client.get("/1.0/operations", recursion=1, project=resource.project).values():
            for state in states:
                if state["description"] == "Copying storage volume" and state["status_code"] < 200:
                    with contextlib.suppress(LxdError):
                        client.wait(Operation(state["id"], state), what="wait", deadline=resource.options["deadline"])


class ImageHandler(Handler):
    """Handler of images: they are found by an alias, and the image of the alias is written."""

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        bodies = {resource.name: self.read(client, resource)[0] for resource in resources}
        return {name: body for name, body in bodies.items() if body is not None}

    def read(self, client: Client, resource: Resource) -> tuple[Body | None, str | None]:
        try:
            alias = client.get(resource.path, project=resource.project)
            return client.read(f"/1.0/images/{alias['target']}", project=resource.project)
        except NotFound:
            return None, None

    def describe(self, resource: Resource, body: Body) -> dict[str, Any]:
        return {"fingerprint": body["fingerprint"], "properties": body.get("properties") or {}}

    def write_path(self, resource: Resource, body: Body) -> str:
        return f"/1.0/images/{body['fingerprint']}"

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "present" and body is None and not resource.given.get("source"):
            raise LxdError(
                f"Failed to create {resource.label}:",
                "it does not exist yet, so a source has to be given",
                code="invalid_value",
                about=resource.label,
            )
        return super().steps(resource, body)

    def do_create(self, client: Client, resource: Resource, step: Step) -> None:
        image_transfer.create(client, resource)
        # An image that was there already has what it had.
        self.complete(client, resource)


class SnapshotHandler(Handler):
    """Handler of snapshots, which are restored through their instance."""

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        bodies = [self.read(client, resource)[0] for resource in resources]
        return {r.name: body for r, body in zip(resources, bodies, strict=True) if body is not None}

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state != "restored":
            return super().steps(resource, body)
        if body is None:
            raise NotFound(f"Failed to restore {resource.label}:", "it does not exist", about=resource.label)
        return [Step("restore", {}, {"restored": resource.full_name})]

    def do_restore(self, client: Client, resource: Resource, step: Step) -> None:
        path = f"/1.0/instances/{quoted(resource.parents['instance'])}"
        self.call(client, resource, "restore", "PUT", path, {"restore": resource.name})


class BackupHandler(Handler):
    """Handler of backups of instances, which can be written to a file of the controller.

    The file gets the time of the backup. So it is seen whether it is of that one, and whole.
    """

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        bodies = super().read_all(client, resources)
        for resource in resources:
            if resource.options["path"] and resource.name in bodies:
                bodies[resource.name][EXPORTED] = _time_of(Path(resource.options["path"]))
        return bodies

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        result = super().steps(resource, body)
        path = resource.options["path"]
        if path and resource.state == "present" and (body is None or body[EXPORTED] != _time_of_backup(body)):
            result.append(Step("export", {}, {"path": path}))
        return result

    def do_export(self, client: Client, resource: Resource, step: Step) -> None:
        body = self.read(client, resource)[0]
        if body is None:
            raise deleted_meanwhile("export", resource)
        path, seconds = Path(resource.options["path"]), _time_of_backup(body)
        try:
            with (
                client.stream("GET", f"{resource.path}/export", project=resource.project) as response,
                draft(path, response.iter_content(_CHUNK)) as name,
            ):
                os.utime(name, (seconds, seconds))
                os.replace(name, path)
        except OSError as error:
            fault, remedy = f"{path}: {error.strerror}", "make its folder writable with room on its disk, and run again"
            raise LxdError(
                f"Failed to export {resource.label}:", fault, remedy, code="io_error", about=resource.label
            ) from error
        change_count.note()


def _time_of_backup(body: Body) -> float:
    return read_moment(body["created_at"]).timestamp()


def _time_of(path: Path) -> float | None:
    """When a file was written; None if there is none."""
    return path.stat().st_mtime if path.is_file() else None


class WarningHandler(Handler):
    """Handler of warnings, which the server makes, and a person acknowledges or deletes."""

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "absent":
            return super().steps(resource, body)
        if body is None:
            raise NotFound(f"Failed to update {resource.label}:", "it does not exist", about=resource.label)
        found = {"status": body["status"]}
        wanted = {"status": resource.state}
        return [] if found == wanted else [Step("update", found, wanted)]

    def describe(self, resource: Resource, body: Body) -> dict[str, Any]:
        return {"type": body["type"], "status": body["status"]}

    def do_update(self, client: Client, resource: Resource, step: Step) -> None:
        self.call(client, resource, "update", "PUT", resource.path, dict(step.after))


_DEFAULT = Handler()
HANDLERS: dict[str, Handler] = {
    "project": ProjectHandler(),
    "storage_volume": VolumeHandler(),
    "instance": InstanceHandler(),
    "network": NetworkHandler(),
    "storage_pool": StoragePoolHandler(),
    "image": ImageHandler(),
    "snapshot": SnapshotHandler(),
    "instance_backup": BackupHandler(),
    "warning": WarningHandler(),
}


def handler_of(resource: Resource) -> Handler:
    return HANDLERS.get(resource.kind.name, _DEFAULT)
