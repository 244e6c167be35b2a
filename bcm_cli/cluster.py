# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm host add`, `drain`, `restore` and `remove`: the members of the cluster at a data center's endpoint."""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import amount
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client, Operation, quoted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError

from . import device_keys, hosts, setup
from .connect import connect
from .datacenter import DataCenter, UsageError
from .members import list_members
from .output import say

#: where members listen for each other
_PORT = 8443
_JOIN_SECONDS = 300
#: a member that does not answer for 20 seconds counts as offline
_ONLINE_SECONDS = 60
_DRAIN_SECONDS = 3600
#: what servers call the operations that move the instances of a member away, and back
_EVACUATING = "Evacuating cluster member"
_RESTORING = "Restoring cluster member"
#: where servers keep the member that an instance was moved away from
_ORIGIN = "volatile.evacuate.origin"
#: storage that every member of a cluster can use
_SHARED_DRIVERS = {"ceph", "cephfs", "cephobject"}
#: devices that are there on every member
_ELSEWHERE_TOO = {"none", "proxy", "tpm"}
_OPEN = "let members reach each other: `bcm host prepare … -e host_members=[ADDRESS]` names the others' addresses"


@dataclass(frozen=True)
class Join:
    """A machine that joins: its name and address; ``first`` are those of a server that becomes a cluster of one."""

    name: str
    address: str
    first: tuple[str, str] | None


@dataclass(frozen=True)
class Drain:
    """What happens to the instances of a member, as PROJECT/NAME; ``stopping`` also says why."""

    moving: tuple[str, ...]
    stopping: tuple[str, ...]


def add(args: argparse.Namespace) -> int:
    """Have a prepared machine join the cluster of the endpoint, which is formed if there is none yet."""
    datacenter: DataCenter = args.datacenter
    url = args.host
    if "://" not in url:
        hosts.check_target(url)
        url = f"ssh://{url}"
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(connect(datacenter))
        if url.startswith("ssh://"):
            setup.packages(setup.SSH_PACKAGES, args.yes)
            hosts.pin_host_key(urlsplit(url).netloc, args.yes)
            device_keys.for_target(datacenter, url, args.yes)
        machine = stack.enter_context(Client(url))
        plan = plan_join(cluster, machine, args.name)
        if plan is None:
            name = machine.server["environment"]["server_name"]
            _await_online(cluster, name)
            say(f"{name} is a member of the cluster already")
            return 0
        if plan.first:
            setup.step(f"{plan.first[0]}, the machine of the endpoint, becomes a cluster of one member at "
                       f"{plan.first[1]}; that cannot be undone")  # fmt: skip
        setup.step(f"{machine.endpoint.name} joins the cluster as {plan.name} at {plan.address}; networks and settings "
                   "of the cluster replace its own")  # fmt: skip
        setup.confirm("Do that?", args.yes, "Nothing was changed")
        join(cluster, machine, plan)
    say(f"{plan.name} is a member of the cluster")
    return 0


def plan_join(cluster: Client, machine: Client, name: str | None) -> Join | None:
    """Return what is to be done for a machine to join, None if it has. Raises BcmError if it cannot."""
    ours, its = cluster.server["environment"], machine.server["environment"]
    label = machine.endpoint.name
    if its.get("server_clustered"):
        if ours.get("server_clustered") and its["certificate"] == ours["certificate"]:
            return None
        raise BcmError(label, "is a member of another cluster", "remove it there first", code="conflict")
    programs = [f"{item['server']} {item['server_version']}" for item in (ours, its)]
    if programs[0] != programs[1]:
        raise BcmError(
            label, f"runs {programs[1]}, and the endpoint {programs[0]}", "install the same version", code="unsupported"
        )
    _refuse_used(machine)
    _compare_pools(cluster, machine)
    clustered = bool(ours.get("server_clustered"))
    name = name or its["server_name"]
    known = [item["server_name"] for item in _members(cluster)] if clustered else [ours["server_name"]]
    if name in known:
        raise BcmError(name, "is the name of a member already", "choose another one with --name", code="conflict")
    first = None if clustered else (ours["server_name"], _address(cluster))
    return Join(name, _address(machine), first)


def join(cluster: Client, machine: Client, plan: Join) -> None:
    """Form the cluster if there is none, and have the machine join it. Raises BcmError."""
    if plan.first:
        name, address = plan.first
        what = f"make {name} a cluster"
        cluster.call("PATCH", "/1.0", {"config": {"core.https_address": address}}, what=what, project=None)
        cluster.call("PUT", "/1.0/cluster", {"server_name": name, "enabled": True}, what=what, project=None)
        _await_online(cluster, name)
    token = cluster.send("POST", "/1.0/cluster/members", {"server_name": plan.name}, project=None)
    certificate = cluster.get("/1.0", project=None)["environment"]["certificate"]
    try:
        body = join_request(plan, token.metadata["metadata"], certificate)
        what = f"have {plan.name} join"
        machine.call("PUT", "/1.0/cluster", body, what=what, deadline=_JOIN_SECONDS, project=None)
    except BcmError as error:
        with contextlib.suppress(LxdError):
            cluster.send("DELETE", f"/1.0/operations/{token.id}", project=None)
        raise error.with_remedy(_OPEN) from error
    _await_online(cluster, plan.name)


def join_request(plan: Join, told: dict[str, Any], certificate: str) -> dict[str, Any]:
    """Return the body with which a server joins: ``told`` is what the cluster says of a token. Raises BcmError."""
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()
    if fingerprint != told["fingerprint"]:
        raise BcmError("The cluster", "has another certificate than its token says", "run again", code="not_verified")
    token = {
        "server_name": plan.name,
        "fingerprint": fingerprint,
        "addresses": told["addresses"],
        "secret": told["secret"],
        "expires_at": told["expiresAt"],
    }
    encoded = base64.b64encode(json.dumps(token).encode()).decode()
    return {
        "server_name": plan.name,
        "enabled": True,
        "server_address": plan.address,
        "cluster_address": told["addresses"][0],
        "cluster_certificate": certificate,
        # LXD 5.0 takes the token as the password of the cluster; later ones, and Incus, by its own name
        "cluster_password": encoded,
        "cluster_token": encoded,
        "member_config": [],
    }


def _refuse_used(machine: Client) -> None:
    """Raise BcmError if a server has anything that is lost when it joins a cluster."""
    pools = machine.get("/1.0/storage-pools", project=None, recursion=1)
    found = {path for pool in pools for path in pool["used_by"] or () if not path.startswith("/1.0/profiles/default")}
    found |= set(machine.get("/1.0/images", project=None))
    found |= {path for path in machine.get("/1.0/projects", project=None) if path != "/1.0/projects/default"}
    networks = machine.get("/1.0/networks", project=None, recursion=1)
    found |= {f"/1.0/networks/{item['name']}" for item in networks if item["managed"]}
    if found:
        listed = ", ".join(sorted(path.removeprefix("/1.0/") for path in found))
        raise BcmError(
            machine.endpoint.name,
            f"has what would be lost: {listed}",
            "remove that, or take a machine that was only prepared",
            code="data_at_risk",
        )


def _compare_pools(cluster: Client, machine: Client) -> None:
    ours, its = (
        {item["name"]: item["driver"] for item in client.get("/1.0/storage-pools", project=None, recursion=1)}
        for client in (cluster, machine)
    )
    if ours != its:
        have, need = (", ".join(f"{name} ({driver})" for name, driver in pools.items()) or "none"
                      for pools in (its, ours))  # fmt: skip
        raise BcmError(
            machine.endpoint.name,
            f"has the storage pools {have}, and the endpoint has {need}",
            "prepare it with the same ones: host_pool and host_pool_driver of `bcm host prepare`",
            code="conflict",
        )


def _address(client: Client) -> str:
    """Return the address and port at which a server is to listen for other members. Raises BcmError."""
    listens = client.server["config"].get("core.https_address", "")
    host = urlsplit(f"https://{listens}").hostname or ""
    if not _is_reachable(host):
        url = urlsplit(client.endpoint.name)
        host = url.hostname or "" if url.scheme in ("ssh", "https") else ""
        if url.scheme == "ssh":
            host = hosts.ssh_address(url.netloc)
        with contextlib.suppress(OSError):
            host = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]) if host else ""
        listens = f"[{host}]:{_PORT}" if ":" in host else f"{host}:{_PORT}"
    if not _is_reachable(host):
        raise BcmError(
            client.endpoint.name,
            "has no address that other machines can reach",
            f"set one there: `{client.tool} config set core.https_address=ADDRESS:8443`",
            code="not_ready",
        )
    return listens


def _is_reachable(host: str) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)


def _members(client: Client) -> list[dict[str, Any]]:
    return list(client.get("/1.0/cluster/members", project=None, recursion=1))


def _member(client: Client, name: str) -> dict[str, Any]:
    """Return a member of the cluster. Raises BcmError if there is no such member."""
    if not client.server["environment"].get("server_clustered"):
        raise BcmError(
            client.endpoint.name, "is in no cluster", "`bcm host add` adds a machine to it", code="not_ready"
        )
    found = {item["server_name"]: item for item in _members(client)}
    if name not in found:
        raise UsageError.of(names.unknown("member", name, found))
    return found[name]


def _await_online(client: Client, name: str) -> None:
    """Wait until a member has answered the others. Raises BcmError."""
    end = time.monotonic() + _ONLINE_SECONDS
    while True:
        state = client.find(f"/1.0/cluster/members/{quoted(name)}", project=None)
        if state and state["status"] in ("Online", "Evacuated"):
            return
        if time.monotonic() > end:
            said = state["message"] if state else "it is not listed"
            raise BcmError(f"Member {name}", f"does not answer the others: {said}", _OPEN, code="timeout")
        time.sleep(0.2)


def drain(args: argparse.Namespace) -> int:
    """Move the instances of a member to others, so that it can be restarted or removed."""
    datacenter: DataCenter = args.datacenter
    with connect(datacenter) as client:
        plan = plan_drain(client, args.name, datacenter.storage_pool)
        if plan is None:
            await_moves(client, _EVACUATING, f"drain {args.name}")
            say(f"{args.name} is drained already")
            return 0
        for instance in plan.moving:
            setup.step(f"{instance} is moved to another member")
        for instance in plan.stopping:
            setup.step(f"{instance} is stopped and stays there")
        setup.confirm(f"Drain {args.name}?", args.yes, "Nothing was changed")
        _move(client, args.name, "evacuate", f"drain {args.name}")
    say(f"{args.name} is drained; `bcm host restore {args.name}` brings its instances back")
    return 0


def restore(args: argparse.Namespace) -> int:
    """Bring back the instances of a member that was drained, and have it take new ones again."""
    with connect(args.datacenter) as client:
        what = f"restore {args.name}"
        returning = plan_restore(client, args.name)
        if returning is None:
            await_moves(client, _RESTORING, what)
            say(f"{args.name} is not drained")
            return 0
        for instance in returning:
            setup.step(f"{instance} is moved back")
        setup.confirm(f"Have {args.name} run instances again?", args.yes, "Nothing was changed")
        _move(client, args.name, "restore", what)
    say(f"{args.name} takes instances again")
    return 0


def plan_restore(client: Client, name: str) -> tuple[str, ...] | None:
    """Return the instances that come back to a member, as PROJECT/NAME; None if it is not drained.

    Raises BcmError if it does not answer.
    """
    status = _member(client, name)["status"]
    if status == "Online":
        return None
    if status != "Evacuated":
        raise _silent(name)
    return tuple(
        f"{item['project']}/{item['name']}" for item in _instances(client) if item["config"].get(_ORIGIN) == name
    )


def _move(client: Client, name: str, action: str, what: str) -> None:
    path = f"/1.0/cluster/members/{quoted(name)}/state"
    client.call("POST", path, {"action": action}, what=what, deadline=_DRAIN_SECONDS, project=None)


def await_moves(client: Client, description: str, what: str) -> None:
    """Wait for what the server still moves: a member has its new state from the start, and the command may be killed.

    Raises BcmError if that fails.
    """
    for states in client.get("/1.0/operations", project=None, recursion=1).values():
        for state in states:
            if state["description"] == description and state["status_code"] < 200:
                client.wait(Operation(state["id"], state), what=what, deadline=_DRAIN_SECONDS)


def _silent(name: str, remedy: str = "start it") -> BcmError:
    return BcmError(f"Member {name}", "does not answer", remedy, code="unreachable")


def plan_drain(client: Client, name: str, pool: str) -> Drain | None:
    """Return what happens when a member is drained, None if it has been. Raises BcmError if it cannot be."""
    member = _member(client, name)
    if member["status"] == "Evacuated":
        return None
    if member["status"] != "Online":
        raise _silent(name)
    drivers = {item["name"]: item["driver"] for item in client.get("/1.0/storage-pools", project=None, recursion=1)}
    moving, stopping, stuck = [], [], []
    memory = space = 0
    for instance in _instances_on(client, name):
        label = f"{instance['project']}/{instance['name']}"
        rule = instance["expanded_config"].get("cluster.evacuate", "auto")
        held = list(_held_by(instance, drivers))
        volumes = [f"{label} has volume {device['source']}" for _name, device in held if device.get("pool")]
        if rule == "stop":
            stopping.append(f"{label}, as its cluster.evacuate says,")
        elif volumes:
            stuck += volumes
        elif held and rule == "auto":
            stopping.append(f"{label}, whose device {held[0][0]} is one of the machine,")
        else:
            moving.append(label)
            state = instance["state"] or {}
            memory += (state.get("memory") or {}).get("usage", 0)
            space += sum(disk["usage"] for disk in (state.get("disk") or {}).values() if disk["usage"] > 0)
    if stuck:
        raise BcmError(
            f"Member {name}",
            f"cannot be drained: {', '.join(stuck)} in a storage pool of that machine alone",
            "remove these instances, or move their volumes first",
            code="data_at_risk",
        )
    if moving:
        _check_room(client, name, pool, memory, space)
    return Drain(tuple(moving), tuple(stopping))


def _instances_on(client: Client, name: str) -> list[dict[str, Any]]:
    return [item for item in _instances(client) if item["location"] == name]


def _instances(client: Client) -> list[dict[str, Any]]:
    """Return the instances of all projects, with their state."""
    return list(client.get("/1.0/instances", project=None, recursion=2, **{"all-projects": "true"}))


def _held_by(instance: dict[str, Any], drivers: dict[str, str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The devices, by name, that bind an instance to its machine."""
    for name, device in instance["expanded_devices"].items():
        shared = drivers.get(device.get("pool", "")) in _SHARED_DRIVERS
        moves = device.get("path") == "/" or shared if device["type"] == "disk" else device.get("network")
        if not moves and device["type"] not in _ELSEWHERE_TOO:
            yield name, device


def _check_room(client: Client, name: str, pool: str, memory: int, space: int) -> None:
    """Raise BcmError unless each of the other members has room: the server chooses where instances go."""
    others = [row for row in list_members(client, pool) if row["host"] != name and row["state"] == "Online"]
    if not others:
        raise BcmError(f"Member {name}", "is the only one that is online", "add or start another one", code="not_ready")
    for row in others:
        for what, needed, free in (("memory", memory, row["memory_free"]), ("storage", space, row["pool_free"])):
            if free is None or needed > free:
                raise BcmError(
                    f"Member {row['host']}",
                    f"has not enough {what} for what would move: {amount(free or 0) or '0'} of {amount(needed)}",
                    "stop instances, or add another member",
                    code="no_space",
                )


def remove(args: argparse.Namespace) -> int:
    """Have a member without instances and volumes leave the cluster, or give up one that is lost with all it had."""
    with connect(args.datacenter) as client:
        lost = plan_removal(client, args.name, args.lost)
        if args.lost:
            setup.step(f"{args.name} is given up, and must never run again as it was")
        else:
            setup.step(f"{args.name} leaves the cluster; its storage pools, networks and settings are deleted there")
        for item in lost:
            setup.step(f"{item} is lost")
        setup.confirm(f"Remove {args.name}?", args.yes, "Nothing was changed")
        path, what = f"/1.0/cluster/members/{quoted(args.name)}", f"remove {args.name}"
        client.call("DELETE", path, what=what, deadline=_JOIN_SECONDS, project=None, force=int(args.lost))
    say(f"{args.name} is a member no more")
    return 0


def plan_removal(client: Client, name: str, lost: bool = False) -> tuple[str, ...]:
    """Return what is lost with a member, as "instance PROJECT/NAME" and "volume PROJECT/POOL/NAME".

    Raises BcmError if it cannot leave: if something is on it, and ``lost`` does not say that it is gone for good.
    """
    member = _member(client, name)
    if name == client.server["environment"]["server_name"]:
        raise BcmError(
            f"Member {name}", "is the machine of the endpoint", "set `endpoint` to another member", code="conflict"
        )
    answers = member["status"] in ("Online", "Evacuated")
    if answers and lost:
        raise BcmError(f"Member {name}", "answers, so it is not lost", "remove it without --lost", code="conflict")
    if not answers and not lost:
        raise _silent(name, "start it; if it is gone for good with all that was on it, add --lost")
    found = [f"instance {item['project']}/{item['name']}" for item in _instances_on(client, name)]
    found += [f"volume {project}/{volume}" for project, volume in _volumes_on(client, name)]
    if found and not lost:
        raise BcmError(
            f"Member {name}",
            f"has {', '.join(found)}",
            f"`bcm host drain {name}` moves instances; move or delete the rest",
            code="data_at_risk",
        )
    return tuple(found)


def _volumes_on(client: Client, name: str) -> Iterator[tuple[str, str]]:
    """Project and POOL/NAME of the volumes of data on a member."""
    for project in client.get("/1.0/projects", project=None, recursion=1):
        if project["config"].get("features.storage.volumes") == "true":
            for pool in client.get("/1.0/storage-pools", project=None, recursion=1):
                path = f"/1.0/storage-pools/{quoted(pool['name'])}/volumes/custom"
                for volume in client.get(path, project=project["name"], recursion=1):
                    if volume.get("location") == name and "/" not in volume["name"]:
                        yield project["name"], f"{pool['name']}/{volume['name']}"
