# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm access`: from where the stacks of a data center are reached, and by whom."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._plan.access import LanAccess, client_name, granted_stack
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Site
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Services

from . import ca, ca_session, onion
from .ca_requests import check_name
from .connect import connect
from .datacenter import DataCenter, UsageError
from .output import answer
from .run_events import tell_access
from .stacks import catalogue, checked
from .status import deployed

#: the ways on which a client needs a key or a certificate
WAYS = ("lan", "onion")


def list_all(args: argparse.Namespace) -> int:
    """List the services that are reached from elsewhere, and the clients that may."""
    datacenter: DataCenter = args.datacenter
    site = Site(catalogue(datacenter), datacenter.request([]))
    services = onion.read(datacenter)
    people = _certified(datacenter)
    with connect(datacenter) as client:
        there = deployed(client)
    rows = [
        _row(site, services, name, key, people)
        for name, stack in site.catalogue.items()
        if name in there
        for key in stack.services
    ]
    rows = [row for row in rows if row["here"] or row["lan"] or row["onion"]]
    if args.json:
        return answer({"services": rows}, True)
    return answer([_cells(row) for row in rows], False)


def grant(args: argparse.Namespace) -> int:
    """Give a client the key of an onion service, or a certificate for local networks."""
    return let_in(args)


def let_in(args: argparse.Namespace, topics: Sequence[str] = ()) -> int:
    """What `grant` does; of kafka, ``topics`` are what the client may read."""
    way, service = _way(args)
    if way == "onion":
        args.service, args.output = service, args.out
        return onion.authorize(args)
    if args.out is None:
        raise UsageError("Certificates are files:", "say where they are to be written", "add --out FOLDER")
    check_name(args.client, args.datacenter)
    args.certificate, args.names, args.usage, args.csr = client_name(args.client, args.stack), [], ["client"], None
    args.pkcs12, args.days = True, None
    status = ca.write_certificate(args)
    tell_access(args.datacenter, "granted", args.client, "lan", args.stack, topics)
    return status


def revoke(args: argparse.Namespace) -> int:
    """Revoke what `grant` gave."""
    way, service = _way(args)
    if way == "onion":
        args.service = service
        return onion.revoke(args)
    args.certificate, args.reason = client_name(args.client, args.stack), "unspecified"
    status = ca.revoke(args)
    tell_access(args.datacenter, "revoked", args.client, "lan", args.stack)
    return status


def _way(args: argparse.Namespace) -> tuple[str, str]:
    """How clients reach a stack that need something for it, and the name of its onion service."""
    datacenter: DataCenter = args.datacenter
    site = Site(checked(datacenter, [args.stack]), datacenter.request([]))
    lan = [item for item in site.lan(args.stack) if item.public is None]
    published = onion.read(datacenter)
    services = [
        service.name
        for key in site.catalogue[args.stack].services
        if (service := published.get(f"{args.stack}-{key}")) and service.authorization and not service.parked
    ]
    there = dict(zip(WAYS, (bool(lan), bool(services)), strict=True))
    found = [way for way in WAYS if there[way] and args.by in (None, way)]
    if len(found) == 2:
        raise UsageError(
            f"{args.stack} is reached in local networks and by its onion address", remedy="add --by lan or --by onion"
        )
    if not found:
        how = {"lan": "in local networks", "onion": "by an onion address"}.get(args.by, "from elsewhere")
        raise UsageError(
            f"Stack {args.stack}",
            f"is not reached {how} with a key or a certificate",
            "`bcm access list` shows how it is, and bcm_access in the inventory says how it shall be",
            code="not_found",
        )
    if found[0] == "onion" and len(services) > 1:
        raise UsageError(
            f"Stack {args.stack} has several onion services, {' and '.join(services)}",
            remedy=f"`bcm onion authorize {args.client} {services[0]}` names one",
        )
    return found[0], services[0] if services else ""


def _certified(datacenter: DataCenter) -> dict[str, list[str]]:
    """The clients with a certificate for each stack that is not revoked."""
    found: dict[str, list[str]] = {}
    for name in sorted(ca_session.unrevoked_names(ca_session.read_only(datacenter).read_database())):
        if granted := granted_stack(name):
            client, stack = granted
            found.setdefault(stack, []).append(client)
    return found


def _row(
    site: Site, services: Services, name: str, key: str, people: Mapping[str, list[str]]
) -> dict[str, Any]:
    lan = site.access.of(name, key)
    published = services.get(f"{name}-{key}")
    found: dict[str, Any] = {
        "stack": name,
        "service": key,
        "here": any(page.service == key for page in site.catalogue[name].web),
        "lan": _lan(lan, people.get(name, [])) if lan else None,
        "onion": None,
    }
    if published and not published.parked:
        public = not published.authorization
        found["onion"] = {"address": published.key.address, "clients": None if public else sorted(published.clients)}
    return found


def _lan(item: LanAccess, people: list[str]) -> dict[str, Any]:
    clients = None if item.public else people
    return {"address": item.place, "from": list(item.sources), "names": list(item.names), "public": item.public,
            "clients": clients}  # fmt: skip


def _cells(row: Mapping[str, Any]) -> dict[str, Any]:
    lan, published = row["lan"], row["onion"]

    def who(item: Mapping[str, Any]) -> str:
        return "everybody" if item["clients"] is None else ", ".join(item["clients"]) or "nobody yet"

    return {
        "stack": row["stack"],
        "service": row["service"],
        "here": f"bcm open {row['stack']}" if row["here"] else None,
        "lan": f"{lan['address']} from {', '.join(lan['from'])}: {who(lan)}" if lan else None,
        "onion": f"{published['address']}: {who(published)}" if published else None,
    }
