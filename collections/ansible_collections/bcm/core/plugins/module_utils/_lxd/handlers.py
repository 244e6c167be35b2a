# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each kind of resource is read, compared and changed. ``steps`` is pure; the rest talks to the server."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import images
from .client import CHANGED_MEANWHILE, Client, quoted
from .errors import DeadlineExceeded, LxdError, NotFound, PreconditionFailed, Unreachable
from .resources import Resource

Body = dict[str, Any]

#: "Ready" is said by the instance itself, "Thawed" is what follows "Frozen".
_RUNNING = ("Running", "Ready", "Thawed")
# Seconds after which an instance is told again to shut down: before its systemd listens, the signal is lost.
_SIGNAL = 10

#: Keys of a network whose setting is what it is without them.
_USUAL = {"ipv4.firewall": "true", "ipv6.firewall": "true", "dns.mode": "managed"}
_FILTERS = ("security.mac_filtering", "security.ipv4_filtering", "security.ipv6_filtering")

#: Beside the fields of the API: the fingerprint of the image an instance ought to have been made from.
WANTED_IMAGE = "bcm.wanted_image"


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
        kind = resource.kind
        found = {name: item.canonical(body.get(name)) for name, item in kind.fields.items() if item.mutable}
        if "config" in found:
            found["config"] = {key: value for key, value in found["config"].items() if not kind.owned_by_server(key)}
        return {name: value for name, value in found.items() if value}

    def difference(self, resource: Resource, body: Body) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields that differ, as they are and as they are wanted; of mappings only the keys that differ."""
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for name in resource.given:
            item = resource.kind.fields[name]
            if not item.mutable:
                continue
            found, wanted = item.canonical(body.get(name)), self.wanted(resource, body, name)
            if found == wanted:
                continue
            if isinstance(wanted, dict):
                keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
                before[name] = {key: found[key] for key in keys if key in found}
                after[name] = {key: wanted[key] for key in keys if key in wanted}
            else:
                before[name], after[name] = found, wanted
        return before, after

    def wanted(self, resource: Resource, body: Body, name: str) -> Any:
        """What a field is to be: as given, else as it is."""
        value = resource.given.get(name, body.get(name))
        if name == "config" and name in resource.given:
            return resource.kind.merged_config(resource.kind.fields[name].canonical(body.get(name)), value)
        return value

    def perform(self, client: Client, resource: Resource, step: Step) -> None:
        if step.action == "update":
            self.update(client, resource, step)
        else:
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

    def update(self, client: Client, resource: Resource, step: Step) -> None:
        # A list of objects has no ETags, so this reads again: what was planned must hold for what the ETag stands for.
        body, etag = self.read(client, resource)
        if body is None:
            raise NotFound(f"Failed to update {resource.label}: somebody deleted it meanwhile; run again")
        if self.difference(resource, body) != (step.before, step.after):
            raise PreconditionFailed(f"Failed to update {resource.label}: {CHANGED_MEANWHILE}")
        path, wanted = self.write_path(resource, body), self.merged(resource, body)
        self.call(client, resource, "update", "PUT", path, wanted, etag=etag)

    def do_delete(self, client: Client, resource: Resource) -> None:
        body = self.read(client, resource)[0]
        if body is not None:
            self.call(client, resource, "delete", "DELETE", self.write_path(resource, body))

    def write_path(self, resource: Resource, body: Body) -> str:
        return resource.path

    def merged(self, resource: Resource, body: Body) -> Body:
        """What a PUT has to say so that everything not given stays as it is."""
        mutable = [name for name, item in resource.kind.fields.items() if item.mutable]
        kept = {name: body.get(name) for name in resource.kind.carried}
        return {**kept, **{name: self.wanted(resource, body, name) for name in mutable}}


class InstanceHandler(Handler):
    """Instances also run or do not, and come from an image."""

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        bodies = super().read_all(client, resources)
        replacing = [r for r in resources if r.options["replace"] and r.name in bodies and "image" in r.given]
        if replacing:
            aliases = client.get("/1.0/images/aliases", project=resources[0].project, recursion=1)
            targets = {alias["name"]: alias["target"] for alias in aliases}
            for resource in replacing:
                image = resource.given["image"]
                bodies[resource.name][WANTED_IMAGE] = targets.get(image, image)
        return bodies

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "absent":
            return super().steps(resource, body)
        if body is None and "image" not in resource.given:
            raise LxdError(f"Failed to create {resource.label}: it does not exist yet, so an image has to be given")
        result: list[Step] = []
        status = body["status"] if body else "Stopped"
        base = (body or {}).get("config", {}).get("volatile.base_image", "")
        image = (body or {}).get(WANTED_IMAGE, base)
        if not base.startswith(image):
            result.append(Step("replace", {"image": base[:12]}, {"image": image[:12]}))
            status = "Stopped"
        else:
            result += super().steps(resource, body)
        if resource.state in ("started", "restarted") and status not in _RUNNING:
            result.append(Step("start", {"status": status}, {"status": "Running"}))
        elif resource.state == "restarted":
            result.append(Step("restart", {"status": status}, {"status": "Running, started anew"}))
        elif resource.state == "stopped" and status != "Stopped":
            result.append(Step("stop", {"status": status}, {"status": "Stopped"}))
        return result

    def do_create(self, client: Client, resource: Resource) -> None:
        body = {"name": resource.name, **resource.given}
        fingerprint = images.fingerprint_of(client, body.pop("image"), resource.project)
        body["source"] = {"type": "image", "fingerprint": fingerprint}
        self.call(client, resource, "create", "POST", resource.collection, body, target=resource.target)

    def do_replace(self, client: Client, resource: Resource) -> None:
        # What cannot be made anew must not be deleted first.
        images.fingerprint_of(client, resource.given["image"], resource.project)
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
        body = self.read(client, resource)[0]
        action = "unfreeze" if body and body["status"] in ("Freezing", "Frozen") else "start"
        self._state(client, resource, "start", {"action": action})
        self._wait_for(client, resource)

    def do_stop(self, client: Client, resource: Resource) -> None:
        self._shut_down(client, resource, "stop")

    def do_restart(self, client: Client, resource: Resource) -> None:
        self._shut_down(client, resource, "restart")
        self._wait_for(client, resource)

    def _shut_down(self, client: Client, resource: Resource, action: str) -> None:
        force = bool(resource.options["force_stop"])
        end = time.monotonic() + float(resource.options["deadline"])
        while True:
            seconds = max(1, min(_SIGNAL, int(end - time.monotonic())))
            try:
                self._state(client, resource, action, {"action": action, "force": force, "timeout": seconds})
                return
            except LxdError as error:
                if force or isinstance(error, Unreachable):
                    raise
                body = self.read(client, resource)[0]
                if body is None or body["status"] != "Running" or time.monotonic() > end:
                    raise type(error)(f"{error}; see what keeps it from shutting down, or set force_stop") from error

    def _state(self, client: Client, resource: Resource, verb: str, body: dict[str, Any]) -> None:
        self.call(client, resource, verb, "PUT", f"{resource.path}/state", body)

    def _wait_for(self, client: Client, resource: Resource) -> None:
        if resource.options["wait_for"] != "address":
            return
        deadline = float(resource.options["deadline"])
        end = time.monotonic() + deadline
        while not addresses(state := client.get(f"{resource.path}/state", project=resource.project)):
            if state["status"] not in _RUNNING:
                command = f"lxc console {resource.name} --project {resource.project} --show-log"
                raise LxdError(f"Failed to start {resource.label}: it stopped again by itself; `{command}` says why")
            if time.monotonic() > end:
                raise DeadlineExceeded(
                    f"Failed to start {resource.label}: it runs, but got no address within {deadline:g} s"
                )
            time.sleep(0.1)


class NetworkHandler(Handler):
    """Networks can be set up anew on their host, the filters of the devices on them included.

    The API has no word for it. The server does it when a key changes, so one changes to what it means unset, and back.
    """

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        result = super().steps(resource, body)
        if resource.state == "reloaded" and body is not None:
            result.append(Step("reload", {}, {"on the host": "set up anew"}))
        return result

    def do_reload(self, client: Client, resource: Resource) -> None:
        body = self.read(client, resource)[0]
        if body is None:
            raise NotFound(f"Failed to reload {resource.label}: somebody deleted it meanwhile; run again")
        key = next((key for key, usual in _USUAL.items() if body["config"].get(key, usual) == usual), None)
        if key is None:
            raise LxdError(
                f"Failed to reload {resource.label}: unset one of {', '.join(_USUAL)}, or restart the server"
            )
        # Who asks whether this was done asks for the network's own rules, so they come last.
        for path in body["used_by"] or ():
            if path.startswith("/1.0/instances/"):
                self._filter_anew(client, resource, path)
        there = body["config"].get(key, "")
        for value in ("" if there else _USUAL[key], there):
            self.call(client, resource, "reload", "PATCH", resource.path, {"config": {key: value}})

    def _filter_anew(self, client: Client, resource: Resource, used_by: str) -> None:
        url = urlsplit(used_by)
        project = parse_qs(url.query).get("project", ["default"])[0]
        devices = client.get(url.path, project=project)["devices"]
        for name, device in devices.items():
            key = next((key for key in _FILTERS if device.get(key) == "true"), None)
            if device.get("network") == resource.name and key:
                for value in ("false", "true"):
                    changed = {"devices": {**devices, name: {**device, key: value}}}
                    what = f"reload the filter of {name} in {url.path.rpartition('/')[2]}"
                    client.call("PATCH", url.path, changed, what=what, project=project)


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
        # An image that was there already has what it had.
        body = self.read(client, resource)[0] or {}
        before, after = self.difference(resource, body)
        if before != after:
            self.update(client, resource, Step("update", before, after))


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
    "network": NetworkHandler(),
    "image": ImageHandler(),
    "snapshot": SnapshotHandler(),
}


def handler_of(resource: Resource) -> Handler:
    return HANDLERS.get(resource.kind.name, _DEFAULT)
