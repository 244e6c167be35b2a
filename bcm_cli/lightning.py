# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm lightning`: the Lightning nodes of a data center, and links with which people's programs reach them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Service, Services

from . import backup, config, onion, setup
from .connect import connect
from .datacenter import DataCenter, UsageError
from .output import answer, draw, say
from .stacks import catalogue, checked
from .status import deployed

#: Blocks until coins from mining can be spent.
_MATURITY = 101
_DEADLINE = 120.0
#: Columns of the table of channels; --json has all.
_SHOWN = ("peer", "state", "capacity", "local", "remote")


def status(args: argparse.Namespace) -> int:
    """Show the Lightning nodes: who they are, their coins, their channels, and copies of their channel backups."""
    programs = _programs(args.datacenter, "summary.py")
    with connect(args.datacenter) as client:
        instances = deployed(client)
        nodes = [
            {"stack": name, **ask_program(client, name, program, {}, deadline=_DEADLINE)}
            for name, program in programs.items()
            if name in instances
        ]
        copies = _copies(args.datacenter, client, instances)
    for node in nodes:
        node["copies"] = [row for row in copies if row["stack"] == node["stack"]]
    if args.json:
        return answer({"nodes": nodes}, True)
    if not nodes:
        say(f"Data center {args.datacenter.name} has no Lightning node: `bcm stack start {' or '.join(programs)}`")
    for node in nodes:
        channels, copied = node.pop("channels"), node.pop("copies")
        answer(node, False)
        say()
        answer([{key: channel[key] for key in _SHOWN} for channel in channels], False)
        say()
        say("Copies of its channel backup:" if copied else "Its channel backup is copied to no target")
        if copied:
            rows = map(backup.describe_for_people, copied)
            answer([{key: row[key] for key in ("target", "type", "age", "state")} for row in rows], False)
        for address in node["addresses"]:
            draw("For other nodes", address)
    return 0


def fund(args: argparse.Namespace) -> int:
    """Mine coins for a node, on regtest."""
    datacenter: DataCenter = args.datacenter
    programs = _programs(datacenter, "address.py")
    if datacenter.chain != "regtest":
        raise UsageError(
            f"Data center {datacenter.name}",
            f"is on {datacenter.chain}, where coins cannot be made",
            "send some to an address of `bcm lncli newaddress p2tr` or `bcm lightning-cli newaddr p2tr`",
            code="unsupported",
        )
    if args.stack is not None:
        checked(datacenter, [args.stack])
        if args.stack not in programs:
            fault = f"is no Lightning node; these are: {', '.join(programs)}"
            raise UsageError(f"Stack {args.stack}", fault, code="unsupported")
    with connect(datacenter) as client:
        wanted = [args.stack] if args.stack else list(programs)
        found = [name for name in deployed(client) if name in wanted]
        if not found:
            start = " or ".join(f"`bcm stack start {name}`" for name in wanted)
            raise BcmError(" and ".join(wanted), "is not deployed", start, code="not_ready")
        if len(found) > 1:
            raise UsageError(f"Say which node: {' or '.join(found)}", code="usage")
        # A chain whose newest block is old is not complete for lnd, which then makes no address.
        _run(client, "bitcoind", "bitcoin-cli", "generatetodescriptor", "1", "raw(51)")
        asked = ask_program(client, found[0], programs[found[0]], {}, shape={"address": str}, deadline=_DEADLINE)
        _run(client, "bitcoind", "bitcoin-cli", "generatetoaddress", str(_MATURITY), asked["address"])
    setup.step(f"Mined {_MATURITY} blocks for {found[0]}: the coins of the first can be spent")
    return 0


def connect_string(args: argparse.Namespace) -> int:
    """List the links to a node, make the one of a client or show it again, or revoke it."""
    datacenter: DataCenter = args.datacenter
    checked(datacenter, [args.stack])
    programs = _programs(datacenter, "connection.py")
    if args.stack not in programs:
        raise UsageError(
            f"Stack {args.stack}", f"has no such links; these have: {', '.join(programs)}", code="unsupported"
        )
    if args.client is None:
        if args.revoke:
            raise UsageError("Say which link is to be revoked", code="usage")
        clients = _ask_connection(args, programs[args.stack], {"action": "list"})["clients"]
        return answer({"clients": clients} if args.json else clients, args.json)
    onion.check_client(args.client)
    service = _choose_service(args.stack, onion.read(datacenter))
    if args.revoke:
        setup.confirm(f"Revoke the link of {args.client} to {args.stack}, for good?", args.yes, "Nothing was revoked")
        _ask_connection(args, programs[args.stack], {"action": "revoke", "name": args.client})
        onion.expel(datacenter, args.client, [service.name])
        return answer({"revoked": args.client, "stack": args.stack}, args.json)
    place = f"{service.key.address}:{min(service.ports)}"
    request = {"action": "make", "name": args.client, "may": args.may, "place": place}
    link = _ask_connection(args, programs[args.stack], request)["link"]
    service = onion.admit(datacenter, args.client, lambda services: _choose_service(args.stack, services))
    key = service.clients[args.client]
    facts = {
        "stack": args.stack,
        "client": args.client,
        "may": args.may,
        "link": link,
        "key": key.text,
        "auth_private": key.client_line(service.key.address).strip(),
    }
    if args.json:
        return answer(facts, True)
    answer(facts, False)
    say()
    say("The key lets a tor connect to the onion service, the link lets a program use the node: hand both over as")
    say("you would a password.")
    if not args.no_qr:
        draw("The key", key.text)
        draw("The link", link)
    return 0


def guard(args: argparse.Namespace) -> int:
    """Add the watchtower of another data center to those that guard the channels of this one."""
    datacenter: DataCenter = args.datacenter
    other = DataCenter(args.tower)
    if other.name == datacenter.name:
        raise UsageError(
            f"Data center {other.name}",
            "cannot guard its own channels: its watchtower is off when it is",
            "name another data center",
        )
    if other.chain != datacenter.chain:
        fault = f"is on {other.chain}, and data center {datacenter.name} on {datacenter.chain}"
        raise UsageError(f"Data center {other.name}", fault, "name one on the same chain", code="unsupported")
    stack, tower = _find_watchtower(other)
    variable = f"{catalogue(datacenter)[stack].prefix}_watchtowers"
    used = list(datacenter.variable(variable) or [])
    if tower not in used:
        config.write(datacenter.group_vars, {variable: [*used, tower]})
    setup.step(f"`bcm -d {datacenter.name} stack start {stack}` has it guard the channels")
    return answer({"stack": stack, "watchtower": tower}, args.json)


def _find_watchtower(datacenter: DataCenter) -> tuple[str, str]:
    """Return the stack that is a watchtower, and its address, as key@host:port. Raises BcmError if none is."""
    programs = _programs(datacenter, "summary.py")
    with connect(datacenter) as client:
        for name in deployed(client):
            if name in programs and "watchtower" in (
                node := ask_program(client, name, programs[name], {}, deadline=_DEADLINE)
            ):
                return name, str(node["watchtower"])
    raise BcmError(
        f"Data center {datacenter.name}",
        "has no watchtower at work",
        f"`bcm -d {datacenter.name} config set lnd_watchtower=true`, and "
        f"`bcm -d {datacenter.name} stack start lnd`",
        code="not_ready",
    )


def _copies(datacenter: DataCenter, client: Client, instances: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Describe the copies of channel backups; none if nothing makes any, or does not answer."""
    if backup.STACK not in instances:
        return []
    try:
        return backup.describe_copies(datacenter, client)
    except LxdError as error:
        setup.step(str(error))
        return []


def _ask_connection(args: argparse.Namespace, program: Path, request: dict[str, str]) -> dict[str, Any]:
    with connect(args.datacenter) as client:
        if args.stack not in deployed(client):
            raise BcmError(args.stack, "is not deployed", f"`bcm stack start {args.stack}`", code="not_ready")
        return ask_program(client, args.stack, program, request, deadline=_DEADLINE, sensitive=True)


def _choose_service(stack: str, services: Services) -> Service:
    """Return the onion service of a node with clients. Raises BcmError."""
    found = [service for name, service in services.items() if name.startswith(f"{stack}-") and service.authorization]
    if not found:
        raise BcmError(
            f"Stack {stack}",
            "has no onion service that has clients",
            f"set {stack}_rest_onion to true, and `bcm stack start {stack}`",
            code="not_ready",
        )
    return found[0]


def _programs(datacenter: DataCenter, name: str) -> dict[str, Path]:
    """Return the Lightning nodes among the stacks whose role has a program of that name, with its path."""
    paths = {stack.name: stack.role_path / "scripts" / name for stack in catalogue(datacenter).values()}
    return {name: path for name, path in paths.items() if path.exists()}


def _run(client: Client, instance: str, *argv: str) -> str:
    done = lxd_exec.run(client, instance, lxd_exec.Command(argv), deadline=_DEADLINE)
    if done.returncode:
        fault = done.stderr.decode(errors="replace").strip()
        raise BcmError(f"{argv[0]} in instance {instance}", f"failed: {fault}", code="command_failed")
    return done.stdout.decode()
