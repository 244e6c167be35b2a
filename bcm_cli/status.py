# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verbs that only read: `bcm stack list`, `bcm stack status`, `bcm info`."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._artifact.content_store import ContentStore
from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._base.read import read_number
from ansible_collections.bcm.core.plugins.module_utils._base.text import amount, harmless
from ansible_collections.bcm.core.plugins.module_utils._ca.issuance_plan import LEAF_DAYS
from ansible_collections.bcm.core.plugins.module_utils._ca.report import authority_report
from ansible_collections.bcm.core.plugins.module_utils._guest import disk_counters, foreign_files, unit_states
from ansible_collections.bcm.core.plugins.module_utils._image import recipe
from ansible_collections.bcm.core.plugins.module_utils._image.cache import Cache
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client, quoted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError, NotFound
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program
from ansible_collections.bcm.core.plugins.module_utils._plan.exceptions import BY_EXCEPTION, THROUGH_TOR
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Source
from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Stack

from . import ca_session, setup
from .connect import connect
from .datacenter import DataCenter
from .output import answer, say
from .stacks import catalogue, checked, pages

#: files and links of ours that each image has, by path: the digest of the content, or of where the link leads
BASE = {
    f"/{path}": hashlib.sha256(content.encode()).hexdigest()
    for path, content in ({path: text for path, (_mode, text) in recipe.FILES.items()} | recipe.LINKS).items()
}
#: a run renews certificates that have a third of their time left
_WARNED_DAYS = LEAF_DAYS // 3


def list_stacks(args: argparse.Namespace) -> int:
    chain = args.datacenter.chain
    stacks = catalogue(args.datacenter)
    if args.json:
        listed = [
            {
                "stack": stack.name,
                "description": stack.description,
                "tier": stack.tier,
                "chains": list(stack.chains),
                "needs": {other: list(need.services) for other, need in stack.needs.items()},
                "web": [{"service": page.service, "path": page.path, "title": page.title} for page in stack.web],
                "services": {
                    name: {"port": service.ports.get(chain), "protocol": service.protocol}
                    for name, service in stack.services.items()
                },
            }
            for stack in stacks.values()
        ]
        return answer({"stacks": listed}, True)
    rows = [
        {"stack": stack.name, "tier": stack.tier, "needs": list(stack.needs), "what it is": stack.description}
        for stack in stacks.values()
    ]
    return answer(rows, False)


def status(args: argparse.Namespace) -> int:
    """Show the status of stacks; the exit status is 3 if one is not in order, as with systemctl."""
    datacenter: DataCenter = args.datacenter
    known = checked(datacenter, args.stacks)
    with connect(datacenter) as client:
        instances = deployed(client)
        wanted = args.stacks or known.ordered(name for name in instances if name in known)
        with ThreadPoolExecutor(8) as pool:
            rows = list(pool.map(lambda name: _row(client, datacenter.chain, known[name], instances.get(name)), wanted))
        uncounted = find_uncounted(client, rows)
        own_names = datacenter_names(datacenter.name, datacenter.chain)
        found, asked = exceptions(client, own_names.uplink), through_tor(client, own_names.network)
    renewal = find_renewal(datacenter, instances)
    if not rows and not args.json:
        print(f"Nothing is deployed in data center {datacenter.name} ({datacenter.chain}): `bcm stack start STACK`")
        return 0
    shown = [{key: value for key, value in row.items() if key not in ("web", "foreign_files")} for row in rows]
    facts = {"exceptions": found, "through_tor": asked, "renewal": renewal, "uncounted": uncounted}
    report = {"stacks": rows, **facts}
    answer(report if args.json else shown, args.json)
    for name, page in () if args.json else ((row["stack"], page) for row in rows for page in row["web"]):
        say()
        say(f"{name}: {page['title']} is at {page['url']}")
    for name, fault in () if args.json else ((row["stack"], fault) for row in rows for fault in row["foreign_files"]):
        say()
        say(f"{name}: {fault}")
    for item in () if args.json else found:
        where = " ".join(str(part) for part in (item["to"], item["protocol"], item["port"]) if part)
        say()
        say(f"Exception: {item['stack']} reaches {where} without Tor: {item['why']}")
    for item in () if args.json else asked:
        say()
        say(f"Exception: {item['stack']} reaches {item['to']} through Tor: {item['why']}")
    if uncounted and not args.json:
        say()
        say(
            f"Warning: the limits of disks are not enforced, as the kernel has lost count of what is on {uncounted}: "
            f"run `btrfs quota rescan -w` there, with the folder storage-pools/{datacenter.storage_pool} of LXD"
        )
    if renewal and not args.json:
        say()
        say(f"{_due(renewal)}: `bcm stack start {renewal['stack']}`")
    return 0 if all(row["status"] == "running" for row in rows) else 3


def find_renewal(datacenter: DataCenter, instances: Collection[str]) -> dict[str, Any] | None:
    """Return the first end of a certificate or a list that a run renews, and a stack whose run does; None without any.

    What signs them is in the vault, so nothing renews them between runs.
    """
    if not instances:
        return None
    authority = ca_session.read_only(datacenter)
    report = authority_report(authority.read_database(), authority.now)
    ends = [(item["not_after"], item["name"]) for item in report["certificates"] if item["name"] in instances]
    if not ends:
        return None
    end, stack = min(ends)
    end = min(end, report["lists_end"] or end)
    return {"end": end, "days_left": (datetime.fromisoformat(end) - authority.now).days, "stack": stack}


def _due(renewal: Mapping[str, Any]) -> str:
    day, left = renewal["end"][:10], renewal["days_left"]
    if left < _WARNED_DAYS:
        return f"Warning: certificates {'have ended' if left < 0 else 'end'} on {day}"
    return f"Certificates are renewed by runs, the next of which has to be by {day}"


def deployed(client: Client) -> dict[str, dict[str, Any]]:
    """Return the instances of the data center, as LXD describes them, by stack."""
    try:
        instances = client.get("/1.0/instances", recursion=2)
    except NotFound:  # no project yet
        return {}
    # an instance that is being replaced has another name
    return {found["name"]: found for found in instances if found["config"].get("user.bcm.stack") == found["name"]}


def exceptions(client: Client, acl: str) -> list[dict[str, Any]]:
    """Return what leaves without Tor, read from the rules in force and not from the inventory."""
    rules = client.find(f"/1.0/network-acls/{acl}", project="default") or {"egress": []}
    return [
        {
            "stack": parts[0],
            "to": rule["destination"],
            "protocol": rule["protocol"],
            "port": _port(rule["destination_port"]),
            "why": parts[1],
        }
        for rule in rules["egress"]
        if len(parts := rule.get("description", "").split(BY_EXCEPTION, 1)) == 2
    ]


def through_tor(client: Client, acl: str) -> list[dict[str, Any]]:
    """Return which hosts are asked through Tor, read from the rules in force and not from the inventory."""
    rules = client.find(f"/1.0/network-acls/{acl}", project="default") or {"egress": []}
    parts = (rule.get("description", "").partition(THROUGH_TOR) for rule in rules["egress"])
    return [
        dict(zip(("stack", "to", "why"), (stack, *what.split(": ", 1)), strict=True))
        for stack, between, what in parts
        if between
    ]


def _port(text: str) -> int | None:
    try:
        return read_number(text, 1, 65535)
    except ValueError:  # several, or a range
        return None


def _row(client: Client, chain: str, stack: Stack, instance: dict[str, Any] | None) -> dict[str, Any]:
    if instance is None:
        empty: dict[str, Any] = {"units": {}, "web": [], "foreign_files": []}
        return {"stack": stack.name, "status": "not deployed", "address": None, "version": None, **empty}
    address = instance["devices"].get("eth0", {}).get("ipv4.address")
    row: dict[str, Any] = {
        "stack": stack.name,
        "status": instance["status"].lower(),
        "address": address,
        "version": instance["config"].get("image.bcm.version"),
        "units": {},
        "web": pages(stack, address, chain) if address else [],
        "foreign_files": [],
    }
    if row["status"] == "running":
        try:
            row["units"] = _units(client, instance["name"])
            row["foreign_files"] = find_foreign(client, instance["name"])
        except LxdError as error:
            row["status"] = f"error: {error}"
        if not set(row["units"].values()) <= {"active", "activating", "window"}:
            row["status"] = "failed"
    return row


def _units(client: Client, instance: str) -> dict[str, str]:
    """Return the state of each unit of a stack; "window" if its window replaces it."""
    program, shape = Path(unit_states.__file__), {"units": {str: str}}
    found = ask_program(client, instance, program, {}, shape=shape, deadline=10)["units"]
    return {harmless(unit): harmless(state) for unit, state in found.items()}


def find_uncounted(client: Client, rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the device of the storage pool if its limits are not enforced, as the first instance that runs has it."""
    program, shape = Path(disk_counters.__file__), {"uncounted": (str, None)}
    for name in (row["stack"] for row in rows if row["status"] == "running"):
        found = ask_program(client, name, program, {}, shape=shape, deadline=10)["uncounted"]
        return harmless(found) if found else None
    return None


def find_foreign(client: Client, instance: str, *, packages: bool = False) -> list[str]:
    """Return messages about foreign files in an instance; with ``packages``, also about files unlike their package."""
    request = {"packages": packages, "base": BASE, "links": recipe.ENABLING_LINKS}
    program, shape, deadline = Path(foreign_files.__file__), {"messages": [str]}, 120 if packages else 20
    try:
        found = ask_program(client, instance, program, request, shape=shape, deadline=deadline)["messages"]
    except LxdError as error:
        if error.code not in ("command_failed", "damaged"):
            raise
        found = [f"cannot list its foreign files: {error}"]
    return [harmless(message) for message in found]  # file names may contain control characters


def info(args: argparse.Namespace) -> int:
    """Show the data center: its endpoint, and where its files are."""
    datacenter: DataCenter = args.datacenter
    if args.bill_of_materials:
        from .materials import bill

        with connect(datacenter) as client:
            project = client.find(f"/1.0/projects/{datacenter.project}", project=None)
            print(bill(datacenter, client, deployed(client), Source.read(project["config"]) if project else None))
        return 0
    facts: dict[str, Any] = {
        "datacenter": datacenter.name,
        "chain": datacenter.chain,
        "project": datacenter.project,
        "inventory": str(datacenter.inventory.relative_to(setup.ROOT)),
        "secrets": str(datacenter.secrets.relative_to(setup.ROOT)),
        "ca_provider": datacenter.ca_provider,
        "image_cache": str(Cache().root),
        "artifact_store": str(ContentStore().root),
        "endpoint": datacenter.endpoint or None,
        "server": None,
    }
    try:
        with connect(datacenter) as client:
            environment = client.server["environment"]
            facts["endpoint"] = client.endpoint.name
            facts["server"] = f"{environment['server']} {environment['server_version']} on {environment['server_name']}"
            facts["storage_pool"] = _pool(client, datacenter.storage_pool)
            facts["stacks"] = sorted(deployed(client))
            facts["volumes"] = _volumes(client)
    except LxdError as error:
        facts["server"] = f"does not answer: {error}"
    return answer(facts, args.json)


def _pool(client: Client, name: str) -> str:
    try:
        pool = client.get(f"/1.0/storage-pools/{name}", project=None)
        space = client.get(f"/1.0/storage-pools/{name}/resources", project=None)["space"]
    except NotFound:
        return f"{name} (does not exist yet)"
    return f"{name} ({pool['driver']}, {amount(space.get('used', 0))} of {amount(space['total'])} used)"


def _volumes(client: Client) -> list[dict[str, Any]]:
    """Return the volumes of the project in all pools; none if there is no such project."""
    return [
        {
            "volume": f"{pool['name']}/{volume['name']}",
            "size": volume["config"].get("size"),
            "used_by": len(volume["used_by"]),
        }
        for pool in client.get("/1.0/storage-pools", project=None, recursion=1)
        for volume in client.find(f"/1.0/storage-pools/{quoted(pool['name'])}/volumes/custom", recursion=1) or ()
    ]
