# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the volumes of a data center lie: their pool may change, and no data must get lost by that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .._base.errors import BcmError
from .model import Instance
from .request import ProjectState, Request, Volume

Instances = Mapping[str, Instance]


def find_moves(request: Request, instances: Instances, found: ProjectState) -> dict[str, str]:
    """The volumes that are to be moved to the pool where they belong, and the pools where they lie.

    Raises BcmError if an instance would start with an empty volume, or with one that is not the newest.
    """
    outdated: list[Volume] = []
    elsewhere: dict[str, Volume] = {}
    pools = _pools(instances)
    for name, pool in pools.items():
        lies = {volume.pool: volume for volume in found.volumes if volume.name == name}
        if pool in lies:
            if lies[pool].moved_to:
                outdated.append(lies[pool])
            continue
        newest = [volume for volume in lies.values() if volume.moved_to not in lies]
        if len(newest) > 1:
            raise BcmError(
                f"Which volume is the newest of {', '.join(map(str, newest))} is not known",
                remedy="look into them, and rename or delete the others",
                code="data_at_risk",
            )
        elsewhere.update((volume.name, volume) for volume in newest)
    if outdated:
        raise BcmError(
            f"Volume {outdated[0]}",
            f"was moved to storage pool {outdated[0].moved_to}, which has the newer data",
            f"set {_variable(request, pools, outdated)} to {outdated[0].moved_to}, and type the command that moves the "
            "data center again",
            code="data_at_risk",
        )
    foreign = [volume for volume in elsewhere.values() if not volume.is_ours]
    if foreign or (elsewhere and not request.move_volumes):
        shown = ", ".join(map(str, foreign or elsewhere.values()))
        there = " or ".join(sorted({volume.pool for volume in elsewhere.values()}))
        wanted = " and ".join(sorted({pools[name] for name in elsewhere}))
        way = (
            f"rename what is not yours, or mark it with {', '.join(foreign[0].missing_marks)}"
            if foreign
            else f"set {_variable(request, pools, elsewhere.values())} to {there}, or move the volumes with "
            "-e move_volumes=true"
        )
        raise BcmError(
            "A start",
            f"would begin with empty volumes in storage pool {wanted}, but there is {shown}",
            way,
            code="data_at_risk",
        )
    return {name: volume.pool for name, volume in elsewhere.items()}


def find_left_behind(instance: Instance, found: ProjectState, moving: Mapping[str, str]) -> list[Volume]:
    """Volumes of an instance of which a newer copy lies in the pool where they belong, or will."""
    return [
        volume
        for volume in found.volumes
        for wanted in instance.volumes.values()
        if volume.name == wanted.volume and volume.pool != wanted.pool
        if volume.moved_to == wanted.pool or moving.get(volume.name) == volume.pool
    ]


def _pools(instances: Instances) -> dict[str, str]:
    """The pool where each volume belongs."""
    return {volume.volume: volume.pool for instance in instances.values() for volume in instance.volumes.values()}


def _variable(request: Request, pools: Mapping[str, str], volumes: Iterable[Volume]) -> str:
    """The variable that says where some volumes belong."""
    is_own = any(pools[volume.name] != request.storage_pool for volume in volumes)
    return "<stack>_<volume>_pool" if is_own else "bcm_storage_pool"
