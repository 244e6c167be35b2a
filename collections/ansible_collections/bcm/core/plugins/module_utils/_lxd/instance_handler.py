# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How instances are read, compared and changed: they start and stop, and can be replaced."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import exec as lxd_exec
from . import id_maps, image_transfer
from .client import Client, own_headers, quoted
from .handler_base import READ, Body, Handler, Step, patiently
from .lxd_errors import Conflict, DeadlineExceeded, LxdError, NotFound, Unreachable
from .resources import ID_MAP, REPLACED, STARTED_WITH, Resource

#: An instance itself reports "Ready"; "Thawed" follows "Frozen".
_RUNNING = ("Running", "Ready", "Thawed")
_FROZEN = ("Freezing", "Frozen")
_ALIVE = (*_RUNNING, *_FROZEN)
# Seconds after which an instance gets another signal to shut down: before its systemd listens, the signal is lost.
_SIGNAL = 10
# Seconds between attempts to shut down.
_PAUSE = 0.2
#: Seconds without an address after which, again and again, the server's DHCP reads again which ones it gives out.
DHCP_PATIENCE = 10.0

#: A program of an instance that is run before it is replaced, such as one that dumps a database.
BEFORE_REPLACEMENT = "/etc/bcm/before-replacement"
# Seconds that it has.
_PREPARATION = 3600.0

#: The fingerprint of the image that an instance is to have.
WANTED_IMAGE = f"{READ}wanted_image"
#: The digest of liblxc's configuration when a running instance was started.
LIBLXC = f"{READ}liblxc"
#: The network devices of a running instance that are not connected to their bridge.
UNPLUGGED = f"{READ}unplugged"
#: True if an instance waits for an address that it does not have.
NO_ADDRESS = f"{READ}no_address"
#: The instance that is being replaced: it is stopped and renamed, and its replacement does not run yet.
FORMER = f"{READ}former"

_HOST_NAME = 63

_NO_IDS = "Not enough uid/gid available"
# Configuration that takes effect when an instance is started, and not before.
_AT_START = re.compile(r"(security\.(?!protection\.)|raw\.|linux\.sysctl\.|limits\.kernel\.|nvidia\.)")
# What Incus 6.0.4 with Debian's security updates says of a log that it does not give out.
_REFUSED_LOG = re.compile(r'Log file name "lxc\.conf" not valid')
# Lines of liblxc's configuration that differ with each start, or can be changed while an instance runs.
_PASSING = re.compile(
    r"lxc\.(log|console)\.|lxc\.environment |lxc\.cgroup2?\.(?!devices\.)|lxc\.mount\.entry = \S*/devices/"
    r"|lxc\.hook\.\S+ = \S+ callhook |lxc\.net\.\d+\.(type|name|flags|link|hwaddr|mtu) = "
)


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
        """Return the digest of a container's liblxc configuration; empty if the server does not provide it.

        Then what an instance was started with is known only of those starts that were ours.
        """
        try:
            path = f"{resource.path}/logs/lxc.conf"
            text = client.download(path, project=resource.project).decode(errors="replace")
        except NotFound:
            return ""
        except LxdError as error:
            if not _REFUSED_LOG.search(str(error)):
                raise
            return ""
        return _digest(line for line in text.splitlines() if not _PASSING.match(line))

    def steps(self, resource: Resource, body: Body | None) -> list[Step]:
        if resource.state == "absent":
            return super().steps(resource, body)
        origins = {"image", "source"} & resource.given.keys()
        if len(origins) == 2:
            raise LxdError(
                f"{resource.label}:", "image and source exclude each other", code="invalid_value", about=resource.label
            )
        if body is None and not origins:
            raise LxdError(
                f"Failed to create {resource.label}:",
                "it does not exist yet, so an image or a source has to be given",
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
        if not resource.options["replace"] or "image" not in resource.given:
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
        if given and LIBLXC in body:
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
        source = body.pop("source", None)
        if source is None:
            fingerprint = image_transfer.fingerprint_of(client, body.pop("image"), resource.project)
            body["source"] = {"type": "image", "fingerprint": fingerprint}
        elif source.get("instance"):
            body["source"] = _copy_of(source)
        if source is not None and source.get("backup"):
            self._import(client, resource, Path(source["backup"]))
        else:
            self.call(client, resource, "create", "POST", resource.collection, body, target=resource.target)
        if separate:
            self._separate(client, resource)
        if source is not None:
            self.complete(client, resource)

    def _import(self, client: Client, resource: Resource, backup: Path) -> None:
        """Create an instance from an exported backup."""
        pool = _root_pool(resource.given.get("devices"))
        headers = {"Content-Type": "application/octet-stream", **own_headers(name=resource.name, pool=pool)}
        what, where = f"create {resource.label}", {"target": resource.target} if resource.target else {}
        try:
            with backup.open("rb") as file:
                answer = client.stream(
                    "POST", resource.collection, data=file, headers=headers, project=resource.project, **where
                )
                client.wait(client.decode(answer), what=what, deadline=float(resource.options["deadline"]))
        except OSError as error:
            fault = f"{error.filename}: {error.strerror}"
            raise LxdError(f"Failed to {what}:", fault, code="io_error", about=resource.label) from error
        except LxdError as error:
            raise error.within(f"Failed to {what}") from error

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
        if former is not None and former["status"] in _RUNNING:
            self._prepare(client, resource)
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

    def _prepare(self, client: Client, resource: Resource) -> None:
        """Run what the instance itself wants to have run before it is replaced; nothing is changed if that fails."""
        try:
            client.download(f"{resource.path}/files?path={BEFORE_REPLACEMENT}", project=resource.project)
        except NotFound:
            return
        own = client.seen_from(resource.project)
        done = lxd_exec.run(own, resource.name, lxd_exec.Command([BEFORE_REPLACEMENT], cwd="/"), deadline=_PREPARATION)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip() or f"it ended with {done.returncode}"
            raise LxdError(
                f"Failed to replace {resource.label}:",
                f"{BEFORE_REPLACEMENT} in it failed: {said}",
                "nothing was changed; mend that, or remove this file in the instance to go without it",
                code="service_failed",
                about=resource.label,
            )

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
        wanted = {**writable_fields(body), **changed}
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
            if body is None:
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
        next_offer = time.monotonic() + DHCP_PATIENCE

        def read() -> Any:
            return client.get(f"{resource.path}/state", project=resource.project)

        while not addresses(state := patiently(read, end - time.monotonic())):
            if state["status"] not in _RUNNING:
                command = f"{client.tool} console {resource.name} --project {resource.project} --show-log"
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
            if time.monotonic() > next_offer:
                next_offer += DHCP_PATIENCE
                offer_addresses_again(client, resource.path, resource.project)
            time.sleep(0.1)


def offer_addresses_again(client: Client, path: str, project: str | None) -> None:
    """Have the server's DHCP offer the addresses that it withholds from an instance.

    It withholds an address for ten minutes when somebody declined it in the name of the instance. It forgets that when
    it reads its files again, as it does when a network device changes: so each gets a route to its own address, and
    loses it again.
    """
    body = client.get(path, project=project)
    for name, device in body["devices"].items():
        address = device.get("ipv4.address", "none")
        if device["type"] == "nic" and address != "none" and "ipv4.routes" not in device:
            for routes in ({"ipv4.routes": f"{address}/32"}, {}):
                devices = {**body["devices"], name: {**device, **routes}}
                what = f"offer {address} to {body['name']} again"
                client.call("PUT", path, {**writable_fields(body), "devices": devices}, what=what, project=project)


def writable_fields(body: Body) -> Body:
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


def _copy_of(source: Mapping[str, str]) -> dict[str, Any]:
    """Return the source of a new instance that is a copy of another one, or of its snapshot."""
    name = "/".join(filter(None, (source["instance"], source.get("snapshot"))))
    project = {"project": source["project"]} if source.get("project") else {}
    return {"type": "copy", "source": name, "instance_only": True, **project}


def _root_pool(devices: Mapping[str, Mapping[str, str]] | None) -> str:
    return next((device.get("pool", "") for device in (devices or {}).values() if _is_root(device)), "")


def _started_with(config: Mapping[str, Any], liblxc: str) -> str:
    """Return the fingerprint that shows whether a running instance was started with this configuration."""
    own = _digest(f"{key}={config[key]}" for key in sorted(config) if _AT_START.match(key))
    return f"{own} {liblxc}".strip()


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def addresses(state: Mapping[str, Any], families: Iterable[str] = ("inet", "inet6")) -> list[str]:
    """The global addresses in an instance's state."""
    return [
        address["address"]
        for name, network in (state.get("network") or {}).items()
        if name != "lo"
        for address in network["addresses"]
        if address["family"] in families and address["scope"] == "global"
    ]
