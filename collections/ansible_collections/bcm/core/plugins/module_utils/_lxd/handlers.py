# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each kind of resource is read, compared and changed. ``steps`` is pure; the rest talks to the server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import images
from .client import Client, quoted
from .errors import DeadlineExceeded, LxdError, NotFound
from .resources import Resource

Body = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One thing to do to a resource, and what it changes, for the diff."""

    action: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


class Handler:
    """The way of most kinds: a collection, objects in it, PUT replaces."""

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        """Bodies by name of what exists; the resources share collection and project."""
        if len(resources) == 1:
            body = self.read(client, resources[0])[0]
            return {} if body is None else {resources[0].name: body}
        try:
            bodies = client.get(resources[0].collection, project=resources[0].project, recursion=1)
        except NotFound:
            return {}
        return {body["name"]: body for body in bodies}

    def read(self, client: Client, resource: Resource) -> tuple[Body | None, str | None]:
        try:
            return client.read(resource.path, project=resource.project)
        except NotFound:
            return None, None

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "absent":
            return [] if body is None else [Step("delete", self.seen(resource, body), {})]
        if body is None:
            return [Step("create", {}, dict(resource.given))]
        before, after = self.difference(resource, body)
        return [Step("update", before, after)] if before != after else []

    def seen(self, resource: Resource, body: Body) -> dict[str, Any]:
        """Of what is there, what a person would recognise."""
        fields = ("description", "config", "devices", "profiles")
        return {key: self.present(resource, body, key) for key in fields if key in resource.kind.fields and body.get(key)}

    def present(self, resource: Resource, body: Body, name: str) -> Any:
        """A field as it is, canonical and without what belongs to the server."""
        value = resource.kind.fields[name].canonical(body.get(name))
        if name == "config":
            given = resource.given.get("config") or {}
            return {k: v for k, v in value.items() if k in given or not resource.kind.owned_by_server(k)}
        return value

    def difference(self, resource: Resource, body: Body) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields that differ, as they are and as they are wanted; of mappings only the keys that differ."""
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for name, wanted in resource.given.items():
            if not resource.kind.fields[name].mutable:
                continue
            found = self.present(resource, body, name)
            if found == wanted:
                continue
            if isinstance(wanted, dict):
                keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
                before[name] = {key: found[key] for key in keys if key in found}
                after[name] = {key: wanted[key] for key in keys if key in wanted}
            else:
                before[name], after[name] = found, wanted
        return before, after

    def perform(self, client: Client, resource: Resource, step: Step) -> None:
        getattr(self, f"do_{step.action}")(client, resource)

    def call(
        self, client: Client, resource: Resource, verb: str, method: str, path: str, body: Any = None, **rest: Any
    ) -> Any:
        deadline = float(resource.options.get("deadline") or 120.0)
        what = f"{verb} {resource.label}"
        return client.call(method, path, body, what=what, deadline=deadline, project=resource.project, **rest)

    def do_create(self, client: Client, resource: Resource) -> None:
        body = {"name": resource.name, **resource.given}
        self.call(client, resource, "create", "POST", resource.collection, body, target=resource.target)

    def do_update(self, client: Client, resource: Resource) -> None:
        body, etag = self.read(client, resource)
        if body is None:
            raise NotFound(f"Failed to update {resource.label}: somebody deleted it meanwhile; run again")
        self.call(client, resource, "update", "PUT", self.write_path(resource, body), self.merged(resource, body), etag=etag)

    def do_delete(self, client: Client, resource: Resource) -> None:
        body = self.read(client, resource)[0]
        if body is not None:
            self.call(client, resource, "delete", "DELETE", self.write_path(resource, body))

    def write_path(self, resource: Resource, body: Body) -> str:
        return resource.path

    def merged(self, resource: Resource, body: Body) -> Body:
        """What a PUT has to say so that everything not given stays as it is."""
        mutable = [name for name, item in resource.kind.fields.items() if item.mutable]
        result = {name: body.get(name) for name in (*mutable, *resource.kind.carried)}
        for name in mutable:
            if name == "config" and "config" in resource.given:
                result[name] = resource.kind.merged_config(body.get("config") or {}, resource.given["config"])
            elif name in resource.given:
                result[name] = resource.given[name]
        return result


class InstanceHandler(Handler):
    """Instances also run or do not, and come from an image."""

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        bodies = super().read_all(client, resources)
        if len(resources) > 1 and bodies and any(resource.options["replace"] for resource in resources):
            aliases = client.get("/1.0/images/aliases", project=resources[0].project, recursion=1)
            targets = {alias["name"]: alias["target"] for alias in aliases}
            for resource in resources:
                if resource.name in bodies and resource.options["replace"] and "image" in resource.given:
                    image = resource.given["image"]
                    bodies[resource.name]["wanted_image"] = targets.get(image, image)
        return bodies

    def read(self, client: Client, resource: Resource) -> tuple[Body | None, str | None]:
        body, etag = super().read(client, resource)
        if body is not None and resource.options["replace"] and "image" in resource.given:
            body["wanted_image"] = images.fingerprint_of(client, resource.given["image"], resource.project)
        return body, etag

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "absent":
            return super().steps(resource, body)
        if body is None and "image" not in resource.given:
            raise LxdError(f"Failed to create {resource.label}: it does not exist yet, so an image has to be given")
        result: list[Step] = []
        status = body["status"] if body else "Stopped"
        base = (body or {}).get("config", {}).get("volatile.base_image", "")
        if body and resource.options["replace"] and not base.startswith(body.get("wanted_image", base)):
            result.append(Step("replace", {"image": base[:12]}, {"image": body["wanted_image"][:12]}))
            status = "Stopped"
        else:
            result += super().steps(resource, body)
        if resource.state in ("started", "restarted") and status != "Running":
            result.append(Step("start", {"status": status}, {"status": "Running"}))
        elif resource.state == "restarted":
            result.append(Step("restart", {"status": status}, {"status": "Running, started anew"}))
        elif resource.state == "stopped" and status == "Running":
            result.append(Step("stop", {"status": status}, {"status": "Stopped"}))
        return result

    def do_create(self, client: Client, resource: Resource) -> None:
        body = {"name": resource.name, **resource.given}
        fingerprint = images.fingerprint_of(client, body.pop("image"), resource.project)
        body["source"] = {"type": "image", "fingerprint": fingerprint}
        self.call(client, resource, "create", "POST", resource.collection, body, target=resource.target)

    def do_replace(self, client: Client, resource: Resource) -> None:
        self.do_delete(client, resource)
        self.do_create(client, resource)

    def do_delete(self, client: Client, resource: Resource) -> None:
        body = self.read(client, resource)[0]
        if body is not None and body["status"] != "Stopped":
            self.do_stop(client, resource)
            if body.get("ephemeral"):
                return
        super().do_delete(client, resource)

    def do_start(self, client: Client, resource: Resource) -> None:
        frozen = self.read(client, resource)[0]
        action = "unfreeze" if frozen and frozen["status"] == "Frozen" else "start"
        self._state(client, resource, "start", {"action": action})
        self._wait_for(client, resource)

    def do_stop(self, client: Client, resource: Resource) -> None:
        self._state(client, resource, "stop", {"action": "stop", **self._how(resource)})

    def do_restart(self, client: Client, resource: Resource) -> None:
        self._state(client, resource, "restart", {"action": "restart", **self._how(resource)})
        self._wait_for(client, resource)

    def _how(self, resource: Resource) -> dict[str, Any]:
        # The server gives up a little before we do, so that its own reason reaches the person.
        seconds = max(1, int(resource.options["deadline"]) - 5)
        return {"force": bool(resource.options["force_stop"]), "timeout": seconds}

    def _state(self, client: Client, resource: Resource, verb: str, body: dict[str, Any]) -> None:
        self.call(client, resource, verb, "PUT", f"{resource.path}/state", body)

    def _wait_for(self, client: Client, resource: Resource) -> None:
        if resource.options["wait_for"] != "address":
            return
        end = time.monotonic() + float(resource.options["deadline"])
        while not addresses(client.get(f"{resource.path}/state", project=resource.project)):
            if time.monotonic() > end:
                raise DeadlineExceeded(
                    f"Failed to start {resource.label}: it runs, but got no address within {resource.options['deadline']:g} s"
                )
            time.sleep(0.1)


class ImageHandler(Handler):
    """Images are known by an alias; what is written to is the image behind it."""

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        bodies = {resource.name: self.read(client, resource)[0] for resource in resources}
        return {name: body for name, body in bodies.items() if body is not None}

    def read(self, client: Client, resource: Resource) -> tuple[Body | None, str | None]:
        try:
            alias = client.get(resource.path, project=resource.project)
            return client.read(f"/1.0/images/{alias['target']}", project=resource.project)
        except NotFound:
            return None, None

    def seen(self, resource: Resource, body: Body) -> dict[str, Any]:
        return {"fingerprint": body["fingerprint"], "properties": body.get("properties") or {}}

    def write_path(self, resource: Resource, body: Body) -> str:
        return f"/1.0/images/{body['fingerprint']}"

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "present" and body is None and not resource.given.get("source"):
            raise LxdError(f"Failed to create {resource.label}: it does not exist yet, so a source has to be given")
        return super().steps(resource, body)

    def do_create(self, client: Client, resource: Resource) -> None:
        images.create(client, resource)


class SnapshotHandler(Handler):
    """Snapshots are restored through their instance."""

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        bodies = [self.read(client, resource)[0] for resource in resources]
        return {r.name: body for r, body in zip(resources, bodies, strict=True) if body is not None}

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state != "restored":
            return super().steps(resource, body)
        if body is None:
            raise NotFound(f"Failed to restore {resource.label}: it does not exist")
        return [Step("restore", {}, {"restored": resource.full_name})]

    def do_restore(self, client: Client, resource: Resource) -> None:
        path = f"/1.0/instances/{quoted(resource.parents['instance'])}"
        self.call(client, resource, "restore", "PUT", path, {"restore": resource.name})


def addresses(state: Mapping[str, Any], families: Iterable[str] = ("inet", "inet6")) -> list[str]:
    """The global addresses in an instance's state."""
    return [
        address["address"]
        for name, network in (state.get("network") or {}).items()
        if name != "lo"
        for address in network["addresses"]
        if address["family"] in families and address["scope"] == "global"
    ]


_DEFAULT = Handler()
HANDLERS: dict[str, Handler] = {
    "instance": InstanceHandler(),
    "image": ImageHandler(),
    "snapshot": SnapshotHandler(),
}


def handler_of(resource: Resource) -> Handler:
    return HANDLERS.get(resource.kind.name, _DEFAULT)
