# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On which member of a cluster a data center is: on one, since its network does not reach beyond a machine."""

from __future__ import annotations

from collections.abc import Iterable

from .._base import names
from .._base.errors import BcmError
from .model import Resource
from .request import Member, ProjectState, Request

#: what is on one member; all others are on each
_PLACED = ("instance", "storage_volume")


def choose_member(request: Request, found: ProjectState) -> Member | None:
    """Return the member that has the data center, or gets it; None without a cluster. Raises BcmError.

    Where something of it is already, the rest is. Else ``bcm_host`` says it, or the most free memory does.
    """
    wanted = request.host
    if not found.members:
        if wanted:
            raise BcmError(
                "bcm_host", f"says {wanted}, but the endpoint is in no cluster", "leave it out", code="invalid_value"
            )
        return None
    members = {member.name: member for member in found.members}
    if wanted and wanted not in members:
        raise names.unknown("member", wanted, members).with_remedy("bcm_host says which has the data center")
    there = sorted(found.locations)
    if len(there) > 1:
        raise BcmError(
            f"Data center {request.datacenter}",
            f"is on several members, {', '.join(there)}, and its network does not reach from one to another",
            "move its instances and volumes to one, with `lxc move`",
            code="conflict",
        )
    if there and wanted and there != [wanted]:
        raise BcmError(
            "bcm_host",
            f"says {wanted}, but instances or volumes of the data center are on {there[0]}",
            "set it back, or move them first",
            code="data_at_risk",
        )
    able = [member for member in found.members if member.free is not None]
    name = wanted or (there or [member.name for member in sorted(able, key=lambda item: -(item.free or 0))] or [""])[0]
    if name not in (member.name for member in able):
        raise BcmError(
            f"Member {name}" if name else "The cluster",
            "takes no instances now",
            "see `bcm host status`; `bcm host restore` ends what `bcm host drain` did",
            code="not_ready",
        )
    return members[name]


def placed(resources: Iterable[Resource], member: Member | None) -> tuple[Resource, ...]:
    """Return resources with the member on which those are made that are on one."""
    if member is None:
        return tuple(resources)
    return tuple(
        {**item, "target": member.name} if item["kind"] in _PLACED and item["state"] != "absent" else item
        for item in resources
    )
