# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each kind of resource is read, compared and changed. ``steps`` is pure; the rest talks to the server."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from . import id_maps, image_transfer
from .client import CHANGED_MEANWHILE, Client, Operation, quoted
from .lxd_errors import Conflict, DeadlineExceeded, LxdError, NotFound, PreconditionFailed, Unreachable
from .resources import COPY_SUFFIX, ID_MAP, MOVED_TO, REPLACED, STARTED_WITH, Resource

Body = dict[str, Any]

#: An instance itself reports "Ready"; "Thawed" follows "Frozen".
_RUNNING = ("Running", "Ready", "Thawed")
_FROZEN = ("Freezing", "Frozen")
_ALIVE = (*_RUNNING, *_FROZEN)
# Seconds after which an instance gets another signal to shut down: before its systemd listens, the signal is lost.
_SIGNAL = 10
# Seconds between attempts to shut down.
_PAUSE = 0.2

#: Keys of a network and their defaults.
_USUAL = {"ipv4.firewall": "true", "ipv6.firewall": "true", "dns.mode": "managed"}
_FILTERS = ("security.mac_filtering", "security.ipv4_filtering", "security.ipv6_filtering")

# Prefix of the names of what is read beside the fields of the API.
_READ = "bcm."
#: The fingerprint of the image that an instance is to have.
WANTED_IMAGE = f"{_READ}wanted_image"
#: The digest of liblxc's configuration when a running instance was started.
LIBLXC = f"{_READ}liblxc"
#: The network devices of a running instance that are not connected to their bridge.
UNPLUGGED = f"{_READ}unplugged"
#: True if an instance waits for an address that it does not have.
NO_ADDRESS = f"{_READ}no_address"
#: The instance that is being replaced: it is stopped and renamed, and its replacement does not run yet.
FORMER = f"{_READ}former"
#: True for a network whose interface does not exist on its host.
VANISHED = f"{_READ}vanished"

_HOST_NAME = 63

_NO_IDS = "Not enough uid/gid available"
# Configuration that takes effect when an instance is started, and not before.
_AT_START = re.compile(r"(security\.(?!protection\.)|raw\.|linux\.sysctl\.|limits\.kernel\.|nvidia\.)")
# Lines of liblxc's configuration that differ with each start, or can be changed while an instance runs.
_PASSING = re.compile(
    r"lxc\.(log|console)\.|lxc\.environment |lxc\.cgroup2?\.(?!devices\.)|lxc\.mount\.entry = \S*/devices/"
    r"|lxc\.hook\.\S+ = \S+ callhook |lxc\.net\.\d+\.(type|name|flags|link|hwaddr|mtu) = "
)


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
    return body and {key: value for key, value in body.items() if not key.startswith(_READ)}


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
        return {body["name"]: body for body in bodies}

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
        end = time.monotonic() + deadline
        while True:
            try:
                return client.call(method, path, body, what=what, deadline=deadline, project=resource.project, **rest)
            except LxdError as error:
                # The server cleans up after a failed start, and refuses other requests meanwhile.
                if "is busy running a" not in str(error) or time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def do_create(self, client: Client, resource: Resource, step: Step) -> None:
        body = {"name": resource.name, **resource.given}
        self.call(client, resource, "create", "POST", resource.collection, body, target=resource.target)

    def do_update(self, client: Client, resource: Resource, step: Step) -> None:
        # A list of objects has no ETags, so this reads the object again: the plan must still hold for that ETag.
        body, etag = self.read(client, resource)
        if body is None:
            raise NotFound(
                f"Failed to update {resource.label}:",
                "it was deleted meanwhile;",
                "run again",
                about=resource.label,
            )
        if self.difference(resource, body) != (step.before, step.after):
            raise PreconditionFailed(f"Failed to update {resource.label}:", CHANGED_MEANWHILE, about=resource.label)
        path, wanted = self.write_path(resource, body), self.merged(resource, body)
        self.call(client, resource, "update", "PUT", path, wanted, etag=etag)

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


class InstanceHandler(Handler):
    """Handler of instances, which also start and stop, and are made from an image.

    An instance that is replaced is renamed first, and deleted when the new one runs. If a run is killed meanwhile, the
    next one completes or undoes the replacement.
    """

    def read_all(self, client: Client, resources: list[Resource]) -> dict[str, Body]:
        project = resources[0].project
        if len(resources) == 1:
            names = resources[0].name, _aside(resources[0].name)
            paths = [f"{resources[0].collection}/{quoted(name)}" for name in names]
            found = [body for path in paths if (body := client.find(path, project=project))]
        else:
            found = client.find(resources[0].collection, project=project, recursion=1) or []
        there = {body["name"]: dict(body) for body in found}
        bodies: dict[str, Body] = {}
        for resource in resources:
            body, former = there.get(resource.name), there.get(_aside(resource.name))
            if body and REPLACED in body["config"]:
                former = body  # it is not renamed yet
            if former and REPLACED not in former["config"]:
                former = None  # a foreign instance with a similar name
            if former:
                body = {**(body or _restored_body(former)), FORMER: former}
            if body:
                bodies[resource.name] = body
        self._read_images(client, [r for r in resources if r.name in bodies], bodies)
        running = [r for r in resources if r.state == "started" and bodies.get(r.name, {}).get("status") in _ALIVE]
        ports: dict[str, list[str]] = {}
        for resource in running:
            self._read_running(client, resource, bodies[resource.name], ports)
        return bodies

    def _read_images(self, client: Client, resources: list[Resource], bodies: dict[str, Body]) -> None:
        replacing = [r for r in resources if r.options["replace"] and "image" in r.given]
        if replacing:
            aliases = client.get("/1.0/images/aliases", project=replacing[0].project, recursion=1)
            targets = {alias["name"]: alias["target"] for alias in aliases}
            for resource in replacing:
                image = resource.given["image"]
                bodies[resource.name][WANTED_IMAGE] = targets.get(image, image)

    def _read_running(self, client: Client, resource: Resource, body: Body, ports: dict[str, list[str]]) -> None:
        body[LIBLXC] = self._liblxc(client, resource)
        body[UNPLUGGED] = []
        for name, device in (body.get("expanded_devices") or {}).items():
            network, port = device.get("network"), body["config"].get(f"volatile.{name}.host_name")
            if device.get("type") != "nic" or not network or not port:
                continue
            if network not in ports:
                where = {"target": body["location"]} if body.get("location", "none") != "none" else {}
                state = client.find(f"/1.0/networks/{quoted(network)}/state", project=resource.project, **where) or {}
                ports[network] = (state.get("bridge") or {}).get("upper_devices") or []
            if port not in ports[network]:
                body[UNPLUGGED].append(name)
        if resource.options["wait_for"] == "address":
            state = client.find(f"{resource.path}/state", project=resource.project)
            body[NO_ADDRESS] = state is not None and not addresses(state)

    def _liblxc(self, client: Client, resource: Resource) -> str:
        """Return the digest of a container's liblxc configuration; empty if the server does not provide it."""
        try:
            path = f"{resource.path}/logs/lxc.conf"
            text = client.download(path, project=resource.project).decode(errors="replace")
        except NotFound:
            return ""
        return _digest(line for line in text.splitlines() if not _PASSING.match(line))

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "absent":
            return super().steps(resource, body)
        if body is None and "image" not in resource.given:
            raise LxdError(
                f"Failed to create {resource.label}:",
                "it does not exist yet, so an image has to be given",
                code="invalid_value",
                about=resource.label,
            )
        former = (body or {}).get(FORMER)
        if body and former and body["status"] in _ALIVE and not _is_of_image(body):
            # Its replacement has run since, and is the one that is replaced now.
            rest = {key: value for key, value in body.items() if key != FORMER}
            return [Step("discard", {"name": former["name"]}, {}), *self.steps(resource, rest)]
        if body and former and (
            body["name"] != resource.name or REPLACED in body["config"] or not _is_of_image(body)
        ):
            # Its replacement does not exist, or never ran.
            image = {key: body[key] for key in (WANTED_IMAGE,) if key in body}
            restored = {**_restored_body(former), **image, "name": resource.name}
            return [Step("restore", {"name": former["name"]}, {"name": resource.name}), *self.steps(resource, restored)]
        if body and (difference := self._replacement(resource, body)):
            return [Step("replace", *difference)]
        result = super().steps(resource, body)
        status = body["status"] if body else "Stopped"
        stale = self._stale(resource, body) if body and resource.state == "started" and status in _ALIVE else None
        if stale:
            result.append(Step("restart", *stale))
        elif resource.state == "restarted" and status in _ALIVE:
            result.append(Step("restart", {"status": status}, {"status": "Running, started again"}))
        elif resource.state in ("started", "restarted") and status not in _RUNNING:
            result.append(Step("start", {"status": status}, {"status": "Running"}))
        elif resource.state == "stopped" and status != "Stopped":
            result.append(Step("stop", {"status": status}, {"status": "Stopped"}))
        elif body and body.get(NO_ADDRESS):
            result.append(Step("wait", {}, {}, changes=False))
        if former:
            result.append(Step("discard", {"name": former["name"]}, {}))
        return result

    def _replacement(self, resource: Resource, body: Body) -> tuple[dict[str, str], dict[str, str]] | None:
        """Return the current and the desired image, or pool of the root disk, if the instance has to be replaced."""
        if not resource.options["replace"]:
            return None
        if not _is_of_image(body):
            return {"image": _base(body)[:12]}, {"image": body[WANTED_IMAGE][:12]}
        pools = _root_pool(body.get("devices")), _root_pool(resource.given.get("devices"))
        return ({"pool": pools[0]}, {"pool": pools[1]}) if all(pools) and pools[0] != pools[1] else None

    def _stale(self, resource: Resource, body: Body) -> tuple[dict[str, str], dict[str, str]] | None:
        """Return how a running instance differs from one that would be started now; None if it does not."""
        if body.get(UNPLUGGED):
            cut = dict.fromkeys(body[UNPLUGGED], "not connected to its network")
            return cut, dict.fromkeys(cut, "connected")
        given = {"config", "devices", "profiles"} & resource.given.keys()
        if given and body.get(LIBLXC):
            config = resource.kind.fields["config"].canonical(body.get("config"))
            profiles = {k: v for k, v in (body.get("expanded_config") or {}).items() if k not in config}
            wanted = _started_with({**profiles, **self.desired_value(resource, body, "config")}, body[LIBLXC])
            if config.get(STARTED_WITH) != wanted:
                return {"started with": "other settings, or unknown ones"}, {"started with": "these settings"}
        return None

    def do_create(self, client: Client, resource: Resource, step: Step) -> None:
        self._make(client, resource)

    def _make(self, client: Client, resource: Resource, former: Body | None = None) -> None:
        """Create an instance, as the replacement of a former one if there is one."""
        body = {"name": resource.name, **resource.given}
        config = dict(resource.given.get("config") or {})
        if former:
            addresses = _mac_addresses(former, resource.given.get("devices") or {})
            config = {**config, **_id_map(former["config"], config), **addresses}
        separate = config.get(id_maps.ISOLATED) == "true" and ID_MAP not in config
        if separate:
            del config[id_maps.ISOLATED]
        if config or "config" in body:
            body["config"] = config
        fingerprint = image_transfer.fingerprint_of(client, body.pop("image"), resource.project)
        body["source"] = {"type": "image", "fingerprint": fingerprint}
        self.call(client, resource, "create", "POST", resource.collection, body, target=resource.target)
        if separate:
            self._separate(client, resource)

    def _separate(self, client: Client, resource: Resource) -> None:
        """Give an instance an id map of its own, if it is to have one and none is given."""
        config = resource.given.get("config") or {}
        if config.get(id_maps.ISOLATED) == "true" and ID_MAP not in config:
            id_maps.separate(client, resource.name, project=resource.project, handed_on=REPLACED)

    def call(self, client: Client, resource: Resource, *words: Any, **rest: Any) -> Any:
        try:
            return super().call(client, resource, *words, **rest)
        except LxdError as error:
            if _NO_IDS in str(error):
                raise error.with_remedy(
                    "the server has not enough ids for another map: give root 65536 more for each instance in "
                    "/etc/subuid and /etc/subgid, and restart the server"
                ) from error
            raise

    def do_replace(self, client: Client, resource: Resource, step: Step) -> None:
        # Find the image first: if it is missing, the instance must not be stopped.
        image_transfer.fingerprint_of(client, resource.given["image"], resource.project)
        other = client.find(f"{resource.collection}/{quoted(_aside(resource.name))}", project=resource.project)
        if other is not None and REPLACED not in other["config"]:
            raise Conflict(
                f"Failed to replace {resource.label}:",
                f"while that is done it is called {other['name']}, and there is another instance of that name",
                "rename it",
                about=resource.label,
            )
        former = self.read(client, resource)[0]
        running = former is not None and former["status"] != "Stopped"
        try:
            self._put_aside(client, resource, step)
            self._make(client, resource, former)
            if resource.state in ("started", "restarted"):
                self.do_start(client, resource, step)
        except LxdError as error:
            try:
                self.do_restore(client, resource, step)
                if running and (self.read(client, resource)[0] or {}).get("status") == "Stopped":
                    self._begin(client, resource)
            except LxdError as second:
                kept = f"the former instance is kept as {_aside(resource.name)}, run again ({second})"
                raise error.with_remedy(kept) from error
            raise error.with_remedy("the former instance is back") from error
        self.do_discard(client, resource, step)

    def _put_aside(self, client: Client, resource: Resource, step: Step) -> None:
        """Stop and rename an instance, without its devices, so that its addresses are free."""
        former = self.read(client, resource)[0]
        if former is None:
            return
        if former["status"] != "Stopped":
            self.do_stop(client, resource, step)
            if former.get("ephemeral"):
                return
        former, etag = self.read(client, resource)
        if former is None:
            return
        # With a device, the server forgets its MAC address.
        had = {
            "devices": former["devices"],
            "autostart": former["config"].get("boot.autostart"),
            "addresses": _mac_addresses(former, former["devices"]),
        }
        config = {**former["config"], "boot.autostart": "false", REPLACED: json.dumps(had)}
        devices = {name: device for name, device in former["devices"].items() if _is_root(device)}
        self._rewrite(client, resource, "put aside", former, {"config": config, "devices": devices}, etag)
        self._rename(client, resource, resource.name, _aside(resource.name))

    def do_restore(self, client: Client, resource: Resource, step: Step) -> None:
        """Restore an instance that was renamed, and delete its replacement."""
        aside = f"{resource.collection}/{quoted(_aside(resource.name))}"
        body, former = self.read(client, resource)[0], client.find(aside, project=resource.project)
        if former is not None and REPLACED in former["config"]:
            if body is not None:
                self._remove(client, resource, step, body, force=True)
            self._rename(client, resource, _aside(resource.name), resource.name)
        former, etag = self.read(client, resource)
        if former is None or REPLACED not in former["config"]:
            return
        was = _restored_body(former)
        self._rewrite(client, resource, "restore", former, {"config": was["config"], "devices": was["devices"]}, etag)

    def do_discard(self, client: Client, resource: Resource, step: Step) -> None:
        path = f"{resource.collection}/{quoted(_aside(resource.name))}"
        former = client.find(path, project=resource.project)
        if former is not None and REPLACED in former["config"]:
            self.call(client, resource, "delete what was replaced by", "DELETE", path)

    def _rewrite(
        self, client: Client, resource: Resource, verb: str, body: Body, changed: Body, etag: str | None
    ) -> None:
        wanted = {**_writable(body), **changed}
        self.call(client, resource, verb, "PUT", resource.path, wanted, etag=etag)

    def _rename(self, client: Client, resource: Resource, old: str, new: str) -> None:
        self.call(client, resource, "rename", "POST", f"{resource.collection}/{quoted(old)}", {"name": new})

    def do_delete(self, client: Client, resource: Resource, step: Step) -> None:
        body = self.read(client, resource)[0]
        if body is not None:
            self._remove(client, resource, step, body)
        self.do_discard(client, resource, step)

    def _remove(self, client: Client, resource: Resource, step: Step, body: Body, *, force: bool = False) -> None:
        if body["status"] != "Stopped":
            if force:
                self._state(client, resource, "stop", {"action": "stop", "force": True, "timeout": -1})
            else:
                self.do_stop(client, resource, step)
            if body.get("ephemeral"):
                return
        super().do_delete(client, resource, step)

    def do_start(self, client: Client, resource: Resource, step: Step) -> None:
        self._begin(client, resource)
        self.do_wait(client, resource, step)

    def _begin(self, client: Client, resource: Resource) -> None:
        body = self.read(client, resource)[0]
        frozen = body is not None and body["status"] in _FROZEN
        if not frozen:
            self._separate(client, resource)
        self._state(client, resource, "start", {"action": "unfreeze" if frozen else "start"})
        if not frozen:
            self._write_down(client, resource)

    def do_stop(self, client: Client, resource: Resource, step: Step) -> None:
        self._shut_down(client, resource, "stop")

    def do_restart(self, client: Client, resource: Resource, step: Step) -> None:
        body = self.read(client, resource)[0]
        if body is not None and body["status"] in _FROZEN:
            self._state(client, resource, "restart", {"action": "unfreeze"})
        self._separate(client, resource)
        self._shut_down(client, resource, "restart")
        self._write_down(client, resource)
        self.do_wait(client, resource, step)

    def _write_down(self, client: Client, resource: Resource) -> None:
        """Record in the instance how it was started, for a later run to compare."""
        # If this fails, that run restarts it.
        with contextlib.suppress(LxdError):
            body, etag = self.read(client, resource)
            liblxc = self._liblxc(client, resource)
            if body is None or not liblxc:
                return
            stamp = _started_with(body.get("expanded_config") or body["config"], liblxc)
            if body["config"].get(STARTED_WITH) != stamp:
                self._rewrite(client, resource, "mark", body, {"config": {**body["config"], STARTED_WITH: stamp}}, etag)

    def _shut_down(self, client: Client, resource: Resource, action: str) -> None:
        force = bool(resource.options["force_stop"])
        end = time.monotonic() + float(resource.options["deadline"])
        while True:
            seconds = max(1, min(_SIGNAL, int(end - time.monotonic())))
            try:
                self._state(client, resource, action, {"action": action, "force": force, "timeout": seconds})
                return
            except LxdError as error:
                if isinstance(error, Unreachable):
                    raise
                # liblxc loses sight of a container that stops on a busy host, and LXD then reports a failure.
                body = self.read(client, resource)[0]
                status = body["status"] if body else "Stopped"  # an ephemeral instance is deleted when it stops
                if status == "Stopped":
                    if action == "restart":
                        self._state(client, resource, action, {"action": "start"})
                    return
                if force:
                    raise
                if status not in (*_RUNNING, "Stopping") or time.monotonic() > end:
                    raise error.with_remedy("see what keeps it from shutting down, or set force_stop") from error
            time.sleep(_PAUSE)

    def _state(self, client: Client, resource: Resource, verb: str, body: dict[str, Any]) -> None:
        self.call(client, resource, verb, "PUT", f"{resource.path}/state", body)

    def do_wait(self, client: Client, resource: Resource, step: Step) -> None:
        if resource.options["wait_for"] != "address":
            return
        deadline = float(resource.options["deadline"])
        end = time.monotonic() + deadline
        while not addresses(state := client.get(f"{resource.path}/state", project=resource.project)):
            if state["status"] not in _RUNNING:
                command = f"lxc console {resource.name} --project {resource.project} --show-log"
                raise LxdError(
                    f"Failed to start {resource.label}:",
                    "it stopped again by itself;",
                    f"`{command}` says why",
                    code="service_failed",
                    about=resource.label,
                )
            if time.monotonic() > end:
                raise DeadlineExceeded(
                    f"Failed to start {resource.label}:",
                    f"it runs, but got no address within {deadline:g} s",
                    about=resource.label,
                )
            time.sleep(0.1)


def _writable(body: Body) -> Body:
    """Return the fields of an instance that a PUT needs. A PATCH of LXD 5.0 loses the description."""
    return {
        key: body.get(key) for key in ("architecture", "config", "description", "devices", "ephemeral", "profiles")
    }


def _aside(name: str) -> str:
    """Return the name of an instance while it is being replaced."""
    suffix = "-replaced"
    return name[: _HOST_NAME - len(suffix)] + suffix


def _restored_body(former: Body) -> Body:
    """Return the body that a renamed instance had before."""
    had = json.loads(former["config"][REPLACED])
    config = {k: v for k, v in former["config"].items() if k not in (REPLACED, "boot.autostart")}
    autostart = {} if had["autostart"] is None else {"boot.autostart": had["autostart"]}
    return {**former, "config": {**config, **autostart, **had.get("addresses", {})}, "devices": had["devices"]}


def _id_map(former: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Return the id map of a former instance for its replacement, so that owners in its volumes stay the same."""
    base = former.get(ID_MAP) or former.get(id_maps.CHOSEN_BASE)
    both = all(config.get(id_maps.ISOLATED) == "true" for config in (former, wanted))
    return {ID_MAP: base} if base and both and ID_MAP not in wanted else {}


def _mac_addresses(former: Body, devices: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the MAC addresses of a former instance for the devices of its replacement, on the same networks.

    The server's DHCP has leased the IP addresses to them, and gives them to no other device until the lease expires.
    """
    keys = {name: f"volatile.{name}.hwaddr" for name, device in devices.items() if device.get("type") == "nic"}
    return {
        key: former["config"][key]
        for name, key in keys.items()
        if key in former["config"] and former["devices"].get(name, {}).get("network") == devices[name].get("network")
    }


def _base(body: Body) -> str:
    return body["config"].get("volatile.base_image", "")


def _is_of_image(body: Body) -> bool:
    """Whether an instance was made from the desired image, if one is given."""
    return _base(body).startswith(body.get(WANTED_IMAGE, ""))


def _is_root(device: Mapping[str, str]) -> bool:
    return device.get("type") == "disk" and device.get("path") == "/"


def _root_pool(devices: Mapping[str, Mapping[str, str]] | None) -> str:
    return next((device.get("pool", "") for device in (devices or {}).values() if _is_root(device)), "")


def _started_with(config: Mapping[str, Any], liblxc: str) -> str:
    """Return the fingerprint that shows whether a running instance was started with this configuration."""
    return f"{_digest(f'{key}={config[key]}' for key in sorted(config) if _AT_START.match(key))} {liblxc}"


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


class NetworkHandler(Handler):
    """Handler of networks, which can be set up again on their host, with the filters of the devices on them.

    The API has no request for it. The server does it when a key changes, so a key is set to its default, and back.
    """

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
            raise NotFound(
                f"Failed to reload {resource.label}:",
                "it was deleted meanwhile;",
                "run again",
                about=resource.label,
            )
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
                    changed = {**_writable(body), "devices": {**devices, name: {**device, key: value}}}
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
        made = self.read(client, resource)[0] or {}
        before, after = self.difference(resource, made)
        if before != after:
            self.do_update(client, resource, Step("update", before, after))

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
        body = self.read(client, resource)[0] or {}
        before, after = self.difference(resource, body)
        if before != after:
            self.do_update(client, resource, Step("update", before, after))


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
    "project": ProjectHandler(),
    "storage_volume": VolumeHandler(),
    "instance": InstanceHandler(),
    "network": NetworkHandler(),
    "image": ImageHandler(),
    "snapshot": SnapshotHandler(),
}


def handler_of(resource: Resource) -> Handler:
    return HANDLERS.get(resource.kind.name, _DEFAULT)
