# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm lightning`: the Lightning nodes of a data center."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program

from . import setup
from .connect import connect
from .datacenter import DataCenter, UsageError
from .output import answer, draw, say
from .stacks import catalogue
from .status import deployed

#: Blocks until coins from mining can be spent.
_MATURITY = 101
_DEADLINE = 120.0
#: Columns of the table; --json has all.
_SHOWN = ("peer", "state", "capacity", "local", "remote")


def status(args: argparse.Namespace) -> int:
    """Show the Lightning nodes: who they are, their coins and their channels."""
    programs = _programs(args.datacenter)
    with connect(args.datacenter) as client:
        instances = deployed(client)
        nodes = [
            {"stack": name, **ask_program(client, name, program, {}, deadline=_DEADLINE)}
            for name, program in programs.items()
            if name in instances
        ]
    if args.json:
        return answer({"nodes": nodes}, True)
    if not nodes:
        say(f"Data center {args.datacenter.name} has no Lightning node: `bcm stack start {' or '.join(programs)}`")
    for node in nodes:
        channels = node.pop("channels")
        answer(node, False)
        say()
        answer([{key: channel[key] for key in _SHOWN} for channel in channels], False)
        for address in node["addresses"]:
            draw("For other nodes", address)
    return 0


def fund(args: argparse.Namespace) -> int:
    """Mine coins for a node, on regtest."""
    datacenter: DataCenter = args.datacenter
    if datacenter.chain != "regtest":
        raise UsageError(
            f"Data center {datacenter.name}",
            f"is on {datacenter.chain}, where coins cannot be made",
            "send some to an address of `bcm lncli newaddress p2tr`",
            code="unsupported",
        )
    with connect(datacenter) as client:
        if "lnd" not in deployed(client):
            raise BcmError("lnd", "is not deployed", "`bcm stack start lnd`", code="not_ready")
        # A chain whose newest block is old is not complete for lnd, which then makes no address.
        _run(client, "bitcoind", "bitcoin-cli", "generatetodescriptor", "1", "raw(51)")
        await_lnd = "until lncli state | grep -q SERVER_ACTIVE; do sleep 0.2; done"
        _run(client, "lnd", "timeout", "60", "sh", "-c", await_lnd)
        address = json.loads(_run(client, "lnd", "lncli", "newaddress", "p2tr"))["address"]
        _run(client, "bitcoind", "bitcoin-cli", "generatetoaddress", str(_MATURITY), address)
    setup.step(f"Mined {_MATURITY} blocks: the coins of the first can be spent")
    return 0


def _programs(datacenter: DataCenter) -> dict[str, Path]:
    """Return the stacks that are Lightning nodes, each with the program that describes its node."""
    paths = {stack.name: stack.role_path / "scripts/summary.py" for stack in catalogue(datacenter).values()}
    return {name: path for name, path in paths.items() if path.exists()}


def _run(client: Client, instance: str, *argv: str) -> str:
    done = lxd_exec.run(client, instance, lxd_exec.Command(argv), deadline=_DEADLINE)
    if done.returncode:
        fault = done.stderr.decode(errors="replace").strip()
        raise BcmError(f"{argv[0]} in instance {instance}", f"failed: {fault}", code="command_failed")
    return done.stdout.decode()
