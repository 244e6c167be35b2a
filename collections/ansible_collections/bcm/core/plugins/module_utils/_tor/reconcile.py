# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The onion services of a data center as they are to be, made of those there are; and having tor serve them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .._base.errors import BcmError
from .deploy import DeployResult, Host, deploy
from .onion_keys import OnionKey, check_address, new_client, new_key, parse_key
from .services import Service, Services, check_name, check_once, parse_ports
from .services_file import ServicesFile


def apply_services(
    host: Host | None,
    store: ServicesFile,
    present: Services,
    wanted: Services,
    *,
    check: bool = False,
    deadline: float,
    network: bool | None = None,
) -> DeployResult:
    """Keep the services that are wanted, and have tor, if given, have them; needs the store's lock but to check."""
    # the keys are kept before tor has them
    if wanted != present and not check:
        store.write(wanted.values())
    if not host:
        return DeployResult()
    return deploy(host, wanted.values(), check=check, deadline=deadline, network=network)


def refuse_lost_keys(present: Services, items: Sequence[Mapping[str, Any]], known: Iterable[str]) -> None:
    """Refuse to make another key for a service that has one somewhere. Raises BcmError."""
    wanted = {item["name"] for item in items if item["state"] == "present" and not item["key"]}
    gone = sorted(wanted.intersection(known).difference(present))
    if gone:
        raise BcmError(
            f"The keys of {', '.join(gone)}",
            "are gone from the file of onion services, and others would have other addresses",
            "put a newer copy of the file back, give the keys, or give the old addresses up with the identity of the "
            "data center (abandoned_identity)",
            code="data_at_risk",
        )


def desired_services(present: Services, items: Sequence[Mapping[str, Any]], *, exclusive: bool = False) -> Services:
    """All services, as the items of onion_service have them; others parked if those are exclusive. Raises BcmError."""
    check_once("Onion service", (item["name"] for item in items))
    result = {name: replace(service, parked=exclusive or service.parked) for name, service in present.items()}
    for item in items:
        name = item["name"]
        check_name("Onion service", name)
        if item["state"] == "absent":
            result.pop(name, None)
            continue
        before = present.get(name)
        result[name] = Service(
            name=name,
            key=_key(item, before),
            ports=parse_ports(name, item["ports"] or []),
            authorization=item["authorization"],
            pow=item["pow"],
            intro_defense=item["intro_defense"],
            max_streams=_streams(name, item["max_streams"]),
            clients=before.clients if before else {},
        )
    return result


def with_clients(service: Service, clients: Iterable[str], *, present: bool) -> Service:
    """A service with clients, or without them. Raises BcmError."""
    clients = list(clients)
    check_once("Client", clients)
    for client in clients:
        check_name("Client", client)
    if present and not service.authorization:
        raise BcmError(
            f"Onion service {service.name}",
            "is public and has no clients",
            "have it with authorization first",
            code="invalid_value",
        )
    rest = {name: key for name, key in service.clients.items() if present or name not in clients}
    made = {name: new_client() for name in clients if present and name not in rest}
    return Service(**{**vars(service), "clients": {**rest, **made}})


def _key(item: Mapping[str, Any], before: Service | None) -> OnionKey:
    what = f"onion service {item['name']}"
    given = parse_key(item["key"], what) if item["key"] else None
    if before and given and before.key != given:
        raise BcmError(
            what.capitalize(),
            f"has another key, that of {before.key.address}",
            "remove the service first if that address may be lost, or give no key",
            code="data_at_risk",
        )
    key = before.key if before else given
    if item["address"]:
        if key is None:
            raise BcmError(
                f"There is no key of {what}, so it cannot have {item['address']}",
                remedy="give the key, too",
                code="invalid_value",
                about=what,
            )
        check_address(key, item["address"], what)
    return key or new_key()


def _streams(name: str, count: int) -> int:
    if 0 <= count <= 65535:
        return count
    raise BcmError(
        f"Onion service {name}:",
        f"max_streams is {count}",
        "give 1 to 65535, or 0 for as many as may be",
        code="invalid_value",
    )
