# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of an endpoint before a plan is executed; everything here only reads."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any

from .._base import names
from .._base.errors import BcmError
from .._base.fields import size_in_bytes
from .._lxd import host_rules
from .._lxd.client import quoted
from .._lxd.engine import check_owners, observe
from .._lxd.resources import parse
from .._plan.model import Resource, Subnet

if TYPE_CHECKING:
    from .._lxd.client import Client

# API extension -> what a data center does with it
_NEEDED = {
    "projects_networks": "Sharing bridges among projects",
    "network_bridge_acl": "An access list on a bridge",
    "instance_nic_bridged_port_isolation": "Keeping instances apart on a bridge",
    "container_nic_ipfilter": "Holding an instance to its address",
}

# what an instance writes outside its volumes; its image shares blocks with the pool's copy
_ROOT_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Wanted:
    """What of a plan is compared with an endpoint."""

    datacenter: str
    state: str
    storage_pool: str
    network: Subnet
    uplink: Subnet
    builders: Subnet
    instances: Collection[str]
    #: the member of a cluster that has them
    host: str | None
    #: those of builders, and all others
    resources: Sequence[Resource]

    @classmethod
    def of(cls, plan: Mapping[str, Any]) -> Wanted:
        return cls(
            datacenter=plan["datacenter"],
            state=plan["state"],
            storage_pool=plan["storage_pool"],
            network=Subnet(**plan["network"]),
            uplink=Subnet(**plan["uplink"]),
            builders=Subnet(**plan["builders"]),
            instances=list(plan["instances"]),
            host=plan["host"],
            resources=[*plan["builder_resources"], *plan["resources"]],
        )

    @property
    def subnets(self) -> tuple[Subnet, Subnet, Subnet]:
        return self.network, self.uplink, self.builders


def check(client: Client, given: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of the server, the pool and the host, for a plan as Ansible has it; the client's project is the plan's.

    Raises BcmError or LxdError for anything that prevents the plan.
    """
    plan = Wanted.of(given)
    environment = client.server["environment"]
    for extension, what in _NEEDED.items():
        client.require(extension, what)
    facts: dict[str, Any] = {"server": {"name": environment["server"], "version": environment["server_version"]}}
    warnings: list[str] = []
    # none if there is no such project yet
    instances = client.find("/1.0/instances", recursion=1) or []
    # That takes the longest, since it asks an instance.
    with ThreadPoolExecutor(1) as pool:
        losing = pool.submit(_lost, client, plan, instances)
        if plan.state in ("present", "restarted"):
            _check_owners(client, plan)
            facts["pool"] = _check_pool(client, plan, {item["name"] for item in instances}, warnings)
            _check_subnets(client, plan)
            _check_lan(client, plan)
    vanished, facts["lost"] = losing.result()
    if vanished:
        warnings.append(
            f"The host lost the bridge {', '.join(vanished)}, which a run sets up again, and restarts the instances on "
            "it: see which program deletes its network interfaces"
        )
    elif facts["lost"]:
        warnings.append(
            f"The host lost the rules that LXD made for {', '.join(facts['lost'])}, which a run puts back: "
            "see which program flushes its firewall"
        )
    return {**facts, "warnings": warnings} if warnings else facts


def _check_owners(client: Client, plan: Wanted) -> None:
    """Refuse to take over foreign resources with the plan's names. Raises LxdError."""
    named = {"kind", "name", "project", "pool", "owner"}
    items = {}
    for item in plan.resources:
        if item["state"] != "absent":
            wanted = parse({key: value for key, value in item.items() if key in named})
            items[wanted.project, wanted.reference] = wanted
    check_owners(observe(client, list(items.values())))


def _lost(
    client: Client, plan: Wanted, instances: Iterable[Mapping[str, Any]]
) -> tuple[list[str], list[str]]:
    """Return the bridges that do not exist on the host, and all networks that have to be set up again.

    One instance on each member tests whether the host has the rules of the networks. The network of that test comes
    last, so that the next run still notices it if this one is killed in between.
    """
    network = plan.network
    tried = {
        item["location"]: item["name"]
        for item in instances
        if item["status"] == "Running" and item["devices"].get("eth0", {}).get("network") == network.name
    }
    if not tried:
        return [], []
    there = {item["name"] for item in client.get("/1.0/networks", recursion=1, project="default")}
    ours = [subnet.name for subnet in (plan.uplink, plan.builders, plan.network) if subnet.name in there]
    vanished = [name for name in ours if _state(client, plan, name) is None]
    if not vanished and not any(host_rules.lost(client, name, network.gateway) for name in tried.values()):
        return [], []
    return vanished, ours


def _check_pool(
    client: Client, plan: Wanted, instances: Container[str], warnings: list[str]
) -> dict[str, Any]:
    pools = {pool["name"]: pool for pool in client.get("/1.0/storage-pools", recursion=1, project=None)}
    name = plan.storage_pool
    if name not in pools:
        raise names.unknown("storage pool", name, list(pools)).with_remedy("bcm_storage_pool says which to use")
    others = {item["pool"] for item in plan.resources if item["kind"] == "storage_volume"}.difference({name})
    for other in sorted(others):
        if other not in pools:
            _check_member(client, other)
            unknown = names.unknown("storage pool", other, list(pools))
            raise unknown.with_remedy("<stack>_<volume>_pool says which to use")
    for each in sorted({name, *others}):
        _warn_of_directory(pools[each], warnings)
    for other in sorted(others):
        _check_room(client, plan, other, 0)
    return _check_room(client, plan, name, sum(instance not in instances for instance in plan.instances))


def _check_member(client: Client, pool: str) -> None:
    """Raises BcmError if the name of a pool has that of a member of a cluster."""
    if not client.server["environment"].get("server_clustered"):
        return
    members = {item["server_name"] for item in client.get("/1.0/cluster/members", recursion=1, project=None)}
    if members.intersection(re.split("[/:@]", pool)):
        raise BcmError(
            f'Storage pool "{pool}"',
            "names a member of the cluster, and an instance uses volumes of the member that it runs on",
            "name a pool alone, which may be a shared one (Ceph); for copies of channel backups on another member, "
            "make that an SSH target of the stack backups",
            code="invalid_value",
        )


def _warn_of_directory(pool: Mapping[str, Any], warnings: list[str]) -> None:
    name = pool["name"]
    if pool.get("driver") == "dir":
        warnings.append(
            f'Storage pool "{name}" is a directory, where LXD may not be able to hold anybody to a size: one instance '
            "could fill it for all; choose one of zfs, btrfs or lvm with bcm_storage_pool"
        )


def _check_room(client: Client, plan: Wanted, name: str, roots: int) -> dict[str, Any]:
    """The room of a pool, and what a plan needs there for its volumes and for new root disks. Raises BcmError."""
    pool = f"/1.0/storage-pools/{quoted(name)}"
    volumes = {item["name"] for item in client.find(f"{pool}/volumes/custom", recursion=1) or ()}
    sizes = {
        item["name"]: size_in_bytes(item["config"]["size"])
        for item in plan.resources
        if item["kind"] == "storage_volume" and item["pool"] == name and item["name"] not in volumes
    }
    needed = sum(sizes.values()) + _ROOT_BYTES * roots
    space = client.get(f"{pool}/resources", project=None, target=plan.host)["space"]
    free = space["total"] - space["used"]
    # a pool that cannot tell its size says 0
    if space["total"] and needed > free:
        largest = sorted(sizes, key=lambda volume: sizes[volume], reverse=True)[:3]
        which = ", ".join(f"{volume} {_human(sizes[volume])}" for volume in largest)
        raise BcmError(
            f'Storage pool "{name}"',
            f"has {_human(free)} free, {_human(needed)} needed{f' (mostly {which})' if which else ''}",
            "make room, choose another pool with bcm_storage_pool, or ask for less with <stack>_<volume>_size",
            code="no_space",
        )
    return {"name": name, "free": free, "needed": needed}


def _check_subnets(client: Client, plan: Wanted) -> None:
    networks = {item["name"]: item for item in client.get("/1.0/networks", recursion=1, project="default")}
    new: list[IPv4Network] = []
    for wanted in plan.subnets:
        subnet = IPv4Network(wanted.subnet)
        config = networks[wanted.name]["config"] if wanted.name in networks else None
        if wanted is plan.builders and not new:
            # it comes and goes within the /20 of the others
            continue
        if config is None or config.get("ipv4.address") != f"{wanted.gateway}/{subnet.prefixlen}":
            new.append(subnet)
    ours = [subnet.name for subnet in plan.subnets]
    # once our bridges are there, nothing new can be in their way
    for other in networks.values() if new else ():
        if other["name"] in ours or other["type"] == "loopback":
            continue
        for taken in _subnets_of(client, plan, other):
            for subnet in new:
                if taken.overlaps(subnet):
                    raise BcmError(
                        f"Subnet {subnet} of data center {plan.datacenter}",
                        f'is taken on {client.endpoint.name}: "{other["name"]}" has {taken};',
                        "set bcm_subnet to a free private /20",
                        code="conflict",
                    )


def _check_lan(client: Client, plan: Wanted) -> None:
    """Refuse addresses of bcm_access that the host does not have, and ports that are taken. Raises BcmError."""
    wanted = {
        device["listen"].removeprefix("tcp:"): (item["project"], item["name"])
        for item in plan.resources
        if item["kind"] == "instance"
        for key, device in item.get("devices", {}).items()
        if key.startswith("lan-")
    }
    if not wanted:
        return
    own = _host_addresses(client, plan)
    every = client.get("/1.0/instances", project=None, recursion=1, **{"all-projects": "true"})
    taken = {
        device["listen"].rpartition(":")[2]: (device["listen"], instance)
        for instance in every
        if (instance["project"], instance["name"]) not in wanted.values()
        for device in instance["devices"].values()
        if device["type"] == "proxy" and device["listen"].startswith("tcp:")
    }
    for place, (_project, name) in wanted.items():
        address, _colon, port = place.rpartition(":")
        where = f"Address {place} of {name} in bcm_access"
        if address not in own:
            raise BcmError(
                where,
                f"is not one of {client.endpoint.name}",
                f"write one of {', '.join(sorted(own))}",
                code="invalid_value",
            )
        listen, other = taken.get(port, ("", {}))
        if listen in (f"tcp:{place}", f"tcp:0.0.0.0:{port}"):
            user = f"instance {other['name']} of project {other['project']}"
            raise BcmError(where, f"is taken by {user}", "choose another port", code="conflict")
        if client.endpoint.is_here and _is_taken(address, int(port)):
            raise BcmError(where, "is taken by a program of this machine", "choose another port", code="conflict")


def _state(client: Client, plan: Wanted, network: str) -> dict[str, Any] | None:
    """The state of an interface of the plan's host; None if there is none."""
    path = f"/1.0/networks/{quoted(network)}/state"
    return client.find(path, project="default", target=plan.host)


def _host_addresses(client: Client, plan: Wanted) -> set[str]:
    """IPv4 addresses of the host's interfaces, except loopback."""
    networks = client.get("/1.0/networks", recursion=1, project="default")
    states = (
        _state(client, plan, item["name"]) or {}
        for item in networks
        if item["type"] != "loopback"
    )
    found = (address for state in states for address in state.get("addresses") or ())
    return {address["address"] for address in found if address["family"] == "inet"}


def _is_taken(address: str, port: int) -> bool:
    """Whether a program of this machine listens there; a port that leads into an instance has no listener."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _subnets_of(client: Client, plan: Wanted, network: Mapping[str, Any]) -> Iterator[IPv4Network]:
    if network["managed"]:
        address = network["config"].get("ipv4.address", "none")
        if "/" in address:
            yield IPv4Network(address, strict=False)
        return
    state = _state(client, plan, network["name"]) or {}
    for address in state.get("addresses") or ():
        if address["family"] == "inet":
            yield IPv4Network(f"{address['address']}/{address['netmask']}", strict=False)


def _human(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
