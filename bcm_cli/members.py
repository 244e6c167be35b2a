# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm host list`: the machines of an endpoint, one or the members of its cluster, and what runs where."""

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


def list_all(args: argparse.Namespace) -> int:
    """Show each machine: its state, what is used of it, and the data center's instances there."""
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
        members = [(member["server_name"], member["status"], {"target": member["server_name"]}) for member in found]
    else:
        members = [(environment["server_name"], "Online", {})]
    places: dict[str, list[str]] = {}
    # in a project that does not exist yet there are none
    for instance in client.find("/1.0/instances", recursion=1) or ():
        places.setdefault(instance["location"], []).append(instance["name"])
    return [
        {
            "host": name,
            "state": state,
            "stacks": sorted(places.get(name if target else _ALONE, [])),
            **_figures(client, pool, target),
        }
        for name, state, target in members
    ]


def _figures(client: Client, pool: str, target: dict[str, str]) -> dict[str, Any]:
    figures: dict[str, Any] = {"cpus": None, "memory": None, "memory_used": None, "pool": None, "pool_used": None}
    try:
        machine = client.get("/1.0/resources", project=None, **target)
        figures |= {"cpus": machine["cpu"]["total"], "memory": machine["memory"]["total"]}
        figures["memory_used"] = machine["memory"]["used"]
        space = client.get(f"/1.0/storage-pools/{quoted(pool)}/resources", project=None, **target)["space"]
        figures |= {"pool": space["total"], "pool_used": space["used"]}
    except LxdError:  # it is off, or has no such pool
        pass
    return figures


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    def share(used: int | None, total: int | None) -> str:
        return "" if used is None or total is None else f"{amount(used) or '0'} of {amount(total)}"

    return {
        "host": row["host"],
        "state": row["state"],
        "processors": row["cpus"],
        "memory": share(row["memory_used"], row["memory"]),
        "storage": share(row["pool_used"], row["pool"]),
        "stacks": row["stacks"],
    }
