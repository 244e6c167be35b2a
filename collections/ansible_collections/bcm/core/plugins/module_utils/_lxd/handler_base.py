# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a resource of most kinds is read, compared and changed. ``steps`` is pure; the rest talks to the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .client import CHANGED_MEANWHILE, Client
from .lxd_errors import LxdError, NotFound, PreconditionFailed
from .resources import Resource

Body = dict[str, Any]

#: Prefix of the names of what is read beside the fields of the API.
READ = "bcm."
#: Faults of the server that pass by themselves, by a part of what it says, and after how many seconds at most.
_PASSES = {
    # It cleans up after a failed start, and refuses other requests meanwhile.
    "is busy running a": float("inf"),
    # It sets a network up again 0.1 s after it killed its dnsmasq, which a busy machine has not ended by then.
    "dnsmasq: failed to create listening socket": 5.0,
    # Incus stumbles over an instance that stops while it is asked.
    "Invalid PID": float("inf"),
}


@dataclass(frozen=True)
class Step:
    """One change of a resource, with the difference that it makes, for the diff."""

    action: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    #: False for a step that only waits.
    changes: bool = True


def api_fields(body: Body | None) -> Body | None:
    """Return the fields of a resource that come from the API."""
    return body and {key: value for key, value in body.items() if not key.startswith(READ)}


def deleted_meanwhile(verb: str, resource: Resource) -> NotFound:
    what = f"Failed to {verb} {resource.label}:"
    return NotFound(what, "it was deleted meanwhile;", "run again", about=resource.label)


def patiently(ask: Callable[[], Any], deadline: float) -> Any:
    """Return what the server answers, which is asked again for ``deadline`` seconds while a fault may pass."""
    began = time.monotonic()
    while True:
        try:
            return ask()
        except LxdError as error:
            lasts = next((min(lasts, deadline) for said, lasts in _PASSES.items() if said in str(error)), 0.0)
            if time.monotonic() >= began + lasts:
                raise
            time.sleep(0.2)


class Handler:
    """Handler of most kinds: objects in a collection, replaced by PUT."""

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        """Return the bodies of the resources that exist, by name; they share collection and project."""
        if len(resources) == 1:
            body = self.read(client, resources[0])[0]
            return {} if body is None else {resources[0].name: body}
        try:
            bodies = client.get(resources[0].collection, project=resources[0].project, recursion=1)
        except NotFound:
            return {}
        return {body[resources[0].kind.key]: body for body in bodies}

    def read(self, client: Client, resource: Resource) -> tuple[Body | None, str | None]:
        try:
            return client.read(resource.path, project=resource.project)
        except NotFound:
            return None, None

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "absent":
            return [] if body is None else [Step("delete", self.describe(resource, body), {})]
        if body is None:
            return [Step("create", {}, dict(resource.given))]
        self._check_fixed(resource, body)
        before, after = self.difference(resource, body)
        return [Step("update", before, after)] if before != after else []

    def _check_fixed(self, resource: Resource, body: Body) -> None:
        """Raise LxdError if a field differs that cannot be changed."""
        for name, wanted in resource.given.items():
            item = resource.kind.fields[name]
            if item.mutable or not item.is_readable or body.get(name) in (None, wanted):
                continue
            raise LxdError(
                f"Failed to update {resource.label}:",
                f"its {name} is {body[name]} and cannot become {wanted}",
                "delete it first, or choose another name",
                code="conflict",
                about=resource.label,
            )

    def describe(self, resource: Resource, body: Body) -> dict[str, Any]:
        """Return the fields of an existing resource that a diff shows."""
        kind = resource.kind
        found = {name: item.canonical(body.get(name)) for name, item in kind.fields.items() if item.mutable}
        if "config" in found:
            found["config"] = {key: value for key, value in found["config"].items() if not kind.owned_by_server(key)}
        return {name: value for name, value in found.items() if value}

    def difference(self, resource: Resource, body: Body) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the current and desired values of the fields that differ; of mappings only the keys that differ."""
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for name in resource.given:
            item = resource.kind.fields[name]
            if not item.mutable:
                continue
            found, wanted = item.canonical(body.get(name)), self.desired_value(resource, body, name)
            if found == wanted:
                continue
            if isinstance(wanted, dict):
                keys = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
                before[name] = {key: found[key] for key in keys if key in found}
                after[name] = {key: wanted[key] for key in keys if key in wanted}
            else:
                before[name], after[name] = found, wanted
        return before, after

    def desired_value(self, resource: Resource, body: Body, name: str) -> Any:
        """Return the value given for a field, else the current one."""
        value = resource.given.get(name, body.get(name))
        if name == "config" and name in resource.given:
            return resource.kind.merged_config(resource.kind.fields[name].canonical(body.get(name)), value)
        return value

    def perform(self, client: Client, resource: Resource, step: Step) -> None:
        getattr(self, f"do_{step.action}")(client, resource, step)

    def call(
        self, client: Client, resource: Resource, verb: str, method: str, path: str, body: Any = None, **rest: Any
    ) -> Any:
        deadline = float(resource.options.get("deadline") or 120.0)
        what = f"{verb} {resource.label}"
        return patiently(
            lambda: client.call(method, path, body, what=what, deadline=deadline, project=resource.project, **rest),
            deadline,
        )

    def do_create(self, client: Client, resource: Resource, step: Step) -> None:
        body = {resource.kind.key: resource.name, **resource.given}
        self.call(client, resource, "create", "POST", resource.collection, body, target=resource.target)

    def do_update(self, client: Client, resource: Resource, step: Step) -> None:
        # A list of objects has no ETags, so this reads the object again: the plan must still hold for that ETag.
        body, etag = self.read(client, resource)
        if body is None:
            raise deleted_meanwhile("update", resource)
        if self.difference(resource, body) != (step.before, step.after):
            raise PreconditionFailed(f"Failed to update {resource.label}:", CHANGED_MEANWHILE, about=resource.label)
        path, wanted = self.write_path(resource, body), self.merged(resource, body)
        self.call(client, resource, "update", "PUT", path, wanted, etag=etag)

    def complete(self, client: Client, resource: Resource) -> None:
        """Give a resource that was made of something else what it did not get from that."""
        before, after = self.difference(resource, self.read(client, resource)[0] or {})
        if before != after:
            self.do_update(client, resource, Step("update", before, after))

    def do_delete(self, client: Client, resource: Resource, step: Step) -> None:
        body = self.read(client, resource)[0]
        if body is not None:
            self.call(client, resource, "delete", "DELETE", self.write_path(resource, body))

    def write_path(self, resource: Resource, body: Body) -> str:
        return resource.path

    def merged(self, resource: Resource, body: Body) -> Body:
        """Return the body of a PUT that keeps everything that is not given."""
        mutable = [name for name, item in resource.kind.fields.items() if item.mutable]
        kept = {name: body.get(name) for name in resource.kind.carried}
        return {**kept, **{name: self.desired_value(resource, body, name) for name in mutable}}
