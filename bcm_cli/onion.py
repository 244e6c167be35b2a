# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm onion`: the onion services of a data center, and their clients."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.disk import write_files
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import unknown
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from ansible_collections.bcm.core.plugins.module_utils._tor.deploy import (
    DEADLINE,
    Instance,
    PublishedState,
    read_published,
)
from ansible_collections.bcm.core.plugins.module_utils._tor.reconcile import apply_services, with_clients
from ansible_collections.bcm.core.plugins.module_utils._tor.services import (
    Service,
    Services,
    check_name,
    client_instructions,
)
from ansible_collections.bcm.core.plugins.module_utils._tor.services_file import ServicesFile

from . import setup
from .connect import connect
from .datacenter import DataCenter, UsageError
from .output import answer, draw, say
from .run_events import tell_access
from .trezor_session import vault

#: the instance whose tor publishes them
TOR = "tor"


# -- verbs ------------------------------------------------------------------------------------------------------------


def list_all(args: argparse.Namespace) -> int:
    """List all services with their addresses and clients."""
    services = read(args.datacenter)
    there, fault = _read_published(args.datacenter) if services else (PublishedState({}, True), None)
    facts = [_facts(service, there, fault) for service in services.values()]
    if args.json:
        return answer({"services": facts}, True)
    if fault:
        setup.step(f"Cannot read which services are published: {fault}")
    rows = [
        {**item, "ports": [port["port"] for port in item["ports"]], "clients": _client_cell(item)} for item in facts
    ]
    shown = ("service", "address", "ports", "clients", "published")
    return answer([{key: row[key] for key in shown} for row in rows], False)


def show(args: argparse.Namespace) -> int:
    """Show one service, and how to configure programs to reach it."""
    service = _find_service(read(args.datacenter), args.service)
    there, fault = _read_published(args.datacenter)
    facts = _facts(service, there, fault)
    if args.json:
        return answer({**facts, "instructions": client_instructions(service)}, True)
    if fault:
        setup.step(f"Cannot read whether it is published: {fault}")
    answer({**facts, "clients": _client_cell(facts)}, False)
    _explain(service)
    _draw("Its address", service.key.address, args)
    return 0


def authorize(args: argparse.Namespace) -> int:
    """Authorize a client, or show the key of one that is authorized."""
    datacenter: DataCenter = args.datacenter
    check_client(args.client)
    file = _check_new_file(args.output) if args.output else None
    service = admit(datacenter, args.client, lambda services: _choose_service(args, services))
    key, line = service.clients[args.client], service.clients[args.client].client_line(service.key.address)
    facts = {"service": service.name, "client": args.client, "address": service.key.address}
    secret = {"key": key.text, "auth_private": line.strip()}
    if file:
        _write(file, line)
        answer({**facts, "written": str(file)}, args.json)
    elif args.json:
        return answer({**facts, **secret, "instructions": client_instructions(service)}, True)
    else:
        answer({**facts, **secret}, False)
    if not args.json:
        _explain(service)
        print("\nAny client with this key can reach the service: hand it over as you would a password.")
    if not file:
        _draw("The key", key.text, args)
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Revoke a client of one service, or of all that it may reach."""
    datacenter: DataCenter = args.datacenter
    present = _store(datacenter).read()
    if args.service:
        service = _find_service(present, args.service)
        if args.client not in service.clients:
            raise UsageError.of(unknown("client", args.client, sorted(service.clients)))
        meant = [service]
    else:
        meant = [service for service in present.values() if args.client in service.clients]
        if not meant:
            clients = sorted({client for service in present.values() for client in service.clients})
            raise UsageError.of(unknown("client", args.client, clients))
    names = ", ".join(service.name for service in meant)
    setup.step(f"{args.client} is revoked for {names}; all clients are disconnected for some seconds")
    setup.confirm(f"Revoke the key of {args.client}, for good?", args.yes, "Nothing was revoked")
    left = expel(datacenter, args.client, [service.name for service in meant])
    return answer({"revoked": args.client, "services": left} if args.json else _remaining_rows(left), args.json)


def admit(datacenter: DataCenter, client: str, choose: Callable[[Services], Service]) -> Service:
    """Authorize a client for the service that is chosen, if it is not, and return that service. Raises BcmError."""
    store = _store(datacenter)
    with store.locked():
        present = store.read()
        service = choose(present)
        known = client in service.clients
        wanted = {**present, service.name: with_clients(service, [client], present=True)}
        if known:
            setup.step(f"{client} is already authorized for {service.name}: this is the same key")
        try:
            _publish(datacenter, store, present, wanted)
        except BcmError as error:
            if not known:
                raise
            setup.step(str(error))
    if not known:
        tell_access(datacenter, "granted", client, "onion", service.name)
    return wanted[service.name]


def expel(datacenter: DataCenter, client: str, names: Collection[str]) -> dict[str, list[str]]:
    """Revoke a client of these services, and return the clients that each has left. Raises BcmError."""
    store = _store(datacenter)
    with store.locked():
        present = store.read()
        less = {
            name: with_clients(present[name], [client], present=False) for name in names if name in present
        }
        _publish(datacenter, store, present, {**present, **less})
    for name in less:
        tell_access(datacenter, "revoked", client, "onion", name)
    return {name: sorted(service.clients) for name, service in less.items()}


# -- stored and published services -------------------------------------------------------------------------------------


def read(datacenter: DataCenter) -> Services:
    """Return all services by name; does not open the vault if there are none."""
    return _store(datacenter).read() if _path(datacenter).exists() else {}


def _path(datacenter: DataCenter) -> Path:
    return ServicesFile(datacenter.secrets, datacenter.chain).path


def _store(datacenter: DataCenter) -> ServicesFile:
    if not _path(datacenter).exists():
        name = f"{datacenter.name} ({datacenter.chain})"
        raise BcmError(
            f"Data center {name}",
            "has no onion services yet",
            "`bcm stack start STACK` creates them",
            code="not_ready",
        )
    return ServicesFile(datacenter.secrets, datacenter.chain, vault=vault(datacenter), owner=datacenter.project)


def _read_published(datacenter: DataCenter) -> tuple[PublishedState, str | None]:
    """Return what tor publishes, or why that cannot be read."""
    try:
        with connect(datacenter) as client:
            _check_running(client)
            with FileSession(client, TOR) as files:
                return read_published(files), None
    except BcmError as error:
        return PublishedState({}, True), str(error)


def _check_running(client: Client) -> None:
    there = client.find(f"/1.0/instances/{TOR}")
    if there is None or there["status"] != "Running":
        raise BcmError(f"instance {TOR}", "does not run", f"`bcm stack start {TOR}`", code="not_ready")


def _publish(datacenter: DataCenter, store: ServicesFile, present: Services, wanted: Services) -> None:
    with connect(datacenter) as client:
        # check it first: the files of a stopped instance can be written, so it would fail half-way
        _check_running(client)
        datacenter.claim(client)
        with Instance(client, TOR) as host:
            done = apply_services(host, store, present, wanted, deadline=DEADLINE)
    if done.changed and done.network is False:
        setup.step(f"tor in instance {TOR} does not use the network: no onion service is published")


# -- output -----------------------------------------------------------------------------------------------------------


def _facts(service: Service, there: PublishedState, fault: str | None) -> dict[str, Any]:
    published = there.network and there.services.get(service.name) == service.digest
    return {
        "service": service.name,
        "address": service.key.address,
        "ports": [{"port": port, "targets": list(to)} for port, to in sorted(service.ports.items())],
        "authorization": service.authorization,
        "clients": sorted(service.clients),
        "published": None if fault else published,
    }


def _client_cell(facts: dict[str, Any]) -> Any:
    return (facts["clients"] or "none yet") if facts["authorization"] else "public"


def _remaining_rows(left: dict[str, list[str]]) -> list[dict[str, Any]]:
    return [{"service": name, "clients": clients or "none"} for name, clients in left.items()]


def _explain(service: Service) -> None:
    for program, text in client_instructions(service).items():
        say()
        say(f"{program.replace('_', ' ').title()}: {text}")


def _draw(what: str, text: str, args: argparse.Namespace) -> None:
    if not args.no_qr:
        draw(what, text)


# -- selection -------------------------------------------------------------------------------------------------------


def _find_service(services: Services, name: str) -> Service:
    if name not in services:
        raise UsageError.of(unknown("onion service", name, sorted(services)))
    return services[name]


def _choose_service(args: argparse.Namespace, services: Services) -> Service:
    """Return the service of that name, or, without a name, the only one with clients."""
    if args.service:
        return _find_service(services, args.service)
    names = sorted(service.name for service in services.values() if service.authorization)
    if len(names) == 1:
        return services[names[0]]
    if names:
        raise UsageError(f"Say which onion service {args.client} may reach: {' or '.join(names)}")
    raise UsageError("No onion service", "has clients: all of them are public", code="not_found")


def check_client(client: str) -> None:
    """Check the name of a client. Raises UsageError."""
    try:
        check_name("Client", client)
    except BcmError as error:
        raise UsageError.of(error) from error


def _check_new_file(name: str) -> Path:
    """Check that a file can be created and does not exist, since it might hold another key."""
    path = Path(os.path.expanduser(name)).absolute()
    if path.exists():
        raise UsageError(path, "exists already", "name another file", code="conflict")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UsageError(path, "cannot be created", "name a file in a folder that you may write to", code="io_error")
    return path


def _write(path: Path, text: str) -> None:
    try:
        write_files((path, text, 0o600))
    except OSError as error:
        raise BcmError(
            path, f"cannot be written: {error.strerror}", "run it again with another file", code="io_error"
        ) from error
