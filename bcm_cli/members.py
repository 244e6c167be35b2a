# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm host status`: the machines of an endpoint, one or the members of its cluster, and what runs where."""

from __future__ import annotations

import argparse
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.text import amount
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client, quoted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError

from .connect import connect
from .datacenter import DataCenter
from .output import answer

#: what LXD calls the location of instances of a server that is in no cluster
_ALONE = "none"


def status(args: argparse.Namespace) -> int:
    """Show each machine: its state, its part in the cluster, what is free, and the instances there."""
    datacenter: DataCenter = args.datacenter
    with connect(datacenter) as client:
        rows = list_members(client, datacenter.storage_pool)
    if args.json:
        return answer({"hosts": rows}, True)
    return answer([_cells(row) for row in rows], False)


def list_members(client: Client, pool: str) -> list[dict[str, Any]]:
    """Return the machines, with memory and storage in bytes; a machine that does not answer has no figures."""
    environment = client.server["environment"]
    if environment.get("server_clustered"):
        found = client.get("/1.0/cluster/members", project=None, recursion=1)
        members = [
            (member["server_name"], member["status"], member["roles"], {"target": member["server_name"]})
            for member in found
        ]
    else:
        members = [(environment["server_name"], "Online", [], {})]
    places: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for instance in client.get("/1.0/instances", project=None, recursion=1, **{"all-projects": "true"}):
        is_ours = instance["project"] == client.project
        label = instance["name"] if is_ours else f"{instance['project']}/{instance['name']}"
        (places if is_ours else others).setdefault(instance["location"], []).append(label)
    return [
        {
            "host": name,
            "state": state,
            "roles": sorted(roles),
            "stacks": sorted(places.get(name if target else _ALONE, [])),
            "others": sorted(others.get(name if target else _ALONE, [])),
            **_figures(client, pool, target),
        }
        for name, state, roles, target in members
    ]


def _figures(client: Client, pool: str, target: dict[str, str]) -> dict[str, Any]:
    names = ("cpus", "memory", "memory_used", "memory_free", "pool", "pool_used", "pool_free")
    figures: dict[str, Any] = dict.fromkeys(names)
    try:
        machine = client.get("/1.0/resources", project=None, **target)
        figures |= {"cpus": machine["cpu"]["total"], "memory": machine["memory"]["total"]}
        used = machine["memory"]["used"]
        figures |= {"memory_used": used, "memory_free": machine["memory"]["total"] - used}
        space = client.get(f"/1.0/storage-pools/{quoted(pool)}/resources", project=None, **target)["space"]
        figures |= {"pool": space["total"], "pool_used": space["used"], "pool_free": space["total"] - space["used"]}
    except LxdError:  # it is off, or has no such pool
        pass
    return figures


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    def share(free: int | None, total: int | None) -> str:
        return "" if free is None or total is None else f"{amount(free) or '0'} of {amount(total)}"

    return {
        "host": row["host"],
        "state": row["state"],
        "roles": row["roles"],
        "processors": row["cpus"],
        "memory free": share(row["memory_free"], row["memory"]),
        "storage free": share(row["pool_free"], row["pool"]),
        "stacks": row["stacks"],
        "others": row["others"],
    }
