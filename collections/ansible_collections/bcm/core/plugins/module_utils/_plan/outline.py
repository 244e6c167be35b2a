# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of a plan that ``preflight`` and ``connections`` read.

Ansible copies what a task is given several times, so a whole plan takes it a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .model import Resource

_FIELDS = ("datacenter", "state", "project", "storage_pool", "host", "network", "uplink", "builders")
#: what says whose a resource is
_OF_ALL = ("kind", "name", "state", "project", "pool", "owner")
#: what decides on connections
_OF_LISTS = ("egress", "ingress")


def outline(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a plan as they are there, but of its parts only what these two read."""
    return {
        **{name: plan[name] for name in _FIELDS},
        "instances": {
            name: {
                "services": {
                    service: {"host_port": offered["host_port"], "lan": offered["lan"]}
                    for service, offered in instance["services"].items()
                    if offered["host_port"] or offered["lan"]
                }
            }
            for name, instance in plan["instances"].items()
        },
        "builder_resources": _outlines(plan["builder_resources"]),
        "resources": _outlines(plan["resources"]),
    }


def _outlines(resources: Iterable[Resource]) -> list[Resource]:
    return [_outline(item) for item in resources]


def _outline(item: Resource) -> Resource:
    found = {key: item[key] for key in (*_OF_ALL, *_OF_LISTS) if key in item}
    if "size" in item.get("config", {}):
        found["config"] = {"size": item["config"]["size"]}
    if devices := {name: device for name, device in item.get("devices", {}).items() if name.startswith("lan-")}:
        found["devices"] = devices
    return found
