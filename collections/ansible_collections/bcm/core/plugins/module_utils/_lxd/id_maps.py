# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Id maps of instances that have one of their own (``security.idmap.isolated``).

The map is chosen here. LXD's own choice (`findIdmap` of its container driver) takes instances of the same name in two
projects for one, so that both get the same map, and counts an instance that is being created as one whose map begins
at 0, so that the next one gets ids below those that root may use, and does not start.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

from .client import OWN, Client, quoted
from .lxd_errors import LxdError
from .resources import ID_MAP

ISOLATED = "security.idmap.isolated"
#: what LXD itself has chosen, of an instance without ID_MAP
CHOSEN_BASE = "volatile.idmap.base"
_SIZE, _SIZE_KEY, _NEXT = 65536, "security.idmap.size", "volatile.idmap.next"
_ATTEMPTS = 20


def separate(client: Client, name: str, *, project: str | None = OWN, handed_on: str = "") -> None:
    """Give an instance an id map that no other instance has, from its next start on, unless it has one.

    ``handed_on`` is a key in the config of instances whose map does not count, since another one has taken it over. A
    server without enough ids gives it the first map, which others have, too.
    """
    path = f"/1.0/instances/{quoted(name)}"
    for _attempt in range(_ATTEMPTS):
        body = client.get(path, project=project)
        taken = _taken(client, body, handed_on)
        base = body["config"].get(ID_MAP)
        if body["config"].get(ISOLATED) == "true" and base and not _overlaps(int(base), taken):
            return
        ids = _ids_of_server(client, path, body, project)
        if ids is None:
            raise LxdError(
                f"Instance {name}:",
                f"the server does not say which ids it may have ({_NEXT})",
                f"remove {ISOLATED} from its config",
                code="unsupported",
                about=f"instance {name}",
            )
        free = [base for base in ids[_SIZE : 1 - _SIZE : _SIZE] if not _overlaps(base, taken)]
        # At random: of two runs that choose at the same time, the one that writes last sees the other and repeats.
        chosen = random.choice(free) if free else ids[0]
        wanted = _patch(body, {ISOLATED: "true", ID_MAP: str(chosen)})
        client.call("PATCH", path, wanted, what=f"give instance {name} an id map of its own", project=project)
        if not free:
            return


def _patch(body: Mapping[str, Any], config: Mapping[str, str]) -> dict[str, Any]:
    """A change of the config alone: a PATCH of LXD 5.0 forgets the description."""
    return {"description": body.get("description", ""), "config": config}


def _ids_of_server(client: Client, path: str, body: Mapping[str, Any], project: str | None) -> range | None:
    """The ids of the host that instances may have; None if the server does not say. It says it of a shared map."""
    if body["config"].get(ISOLATED) == "true":
        shared = _patch(body, {ISOLATED: "false", ID_MAP: ""})
        client.call("PATCH", path, shared, what="read its id map", project=project)
        body = client.get(path, project=project)
    for entry in json.loads(body["config"].get(_NEXT) or "[]"):
        if entry["Isuid"]:
            return range(entry["Hostid"], entry["Hostid"] + entry["Maprange"])
    return None


def _taken(client: Client, body: Mapping[str, Any], handed_on: str) -> list[range]:
    """The maps of all other instances on the same member of the server."""
    every = client.get("/1.0/instances", project=None, recursion=1, **{"all-projects": "true"})
    taken = []
    for other in every:
        config = other["config"]
        same = all(other.get(key) == body.get(key) for key in ("name", "project"))
        base = config.get(ID_MAP) or config.get(CHOSEN_BASE)
        if same or config.get(ISOLATED) != "true" or not base or handed_on in config:
            continue
        if other.get("location") == body.get("location"):
            taken.append(range(int(base), int(base) + int(config.get(_SIZE_KEY) or _SIZE)))
    return taken


def _overlaps(base: int, taken: Sequence[range]) -> bool:
    return any(base < other.stop and other.start < base + _SIZE for other in taken)
