# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends connections of instances that no rule of a plan allows: an access list decides on their first packet alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._guest import end_connections as program
from .._guest.connections import TABLES, Connection, is_allowed, parse
from .._lxd import exec as _exec
from .._lxd.lxd_errors import LxdError
from .._lxd.programs import ask_program

if TYPE_CHECKING:
    from .._lxd.client import Client

_PROGRAM = Path(program.__file__)
_MOST = 16  # instances that are looked at side by side
_DEADLINE = 60.0  # seconds
# Each line with the path of its table before it; a kernel without IPv6 lacks some of them.
_LOOK = ["grep", "-sHv", "local_address", *(f"/proc/net/{table}" for table in TABLES)]


@dataclass(frozen=True)
class Ended:
    """What each instance had that no rule allows, and why others could not be looked at."""

    connections: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def end_connections(client: Client, plan: Mapping[str, Any], instances: Sequence[str], *, check: bool) -> Ended:
    """End what the rules of a plan do not allow in instances that run; in check mode, say what that is.

    An instance that does not answer is left to the steps that configure it.
    """
    ended = Ended()

    def look(name: str) -> None:
        try:
            rules, gateways = rules_for(plan, name), [plan["network"]["gateway"]]
            forbidden = [item for item in _connections_of(client, name) if not is_allowed(item, rules, gateways)]
            if forbidden and not check:
                request = {"rules": rules, "gateways": gateways}
                answer = ask_program(client, name, _PROGRAM, request, shape={"ended": [str]}, deadline=_DEADLINE)
                forbidden = answer["ended"]
            if forbidden:
                ended.connections[name] = sorted(map(str, forbidden))
        except LxdError as error:
            ended.faults[name] = str(error)

    with ThreadPoolExecutor(_MOST) as pool:
        list(pool.map(look, instances))
    return ended


def rules_for(plan: Mapping[str, Any], instance: str) -> list[Mapping[str, str]]:
    """The rules that decide about an instance. Without a port of a host that leads to it, no connection comes in."""
    services = plan["instances"][instance]["services"].values()
    is_open = any(service["host_port"] or service["lan"] for service in services)
    lists = [item for item in plan["resources"] if item["kind"] == "network_acl"]
    return [rule for item in lists for way in ("egress", *(["ingress"] * is_open)) for rule in item.get(way) or ()]


def _connections_of(client: Client, instance: str) -> Iterable[Connection]:
    done = _exec.run(client, instance, _exec.Command(_LOOK, cwd="/"), deadline=_DEADLINE)
    for line in done.stdout.decode("ascii", "replace").splitlines():
        path, _colon, entry = line.partition(":")
        try:
            yield from parse(path.rpartition("/")[2], [entry])
        except (ValueError, KeyError) as error:
            raise LxdError(
                f"Instance {instance}",
                f"shows connections in a form that is not the kernel's: {line[:60]!r}",
                "check which processes run as root there",
                code="damaged",
            ) from error
