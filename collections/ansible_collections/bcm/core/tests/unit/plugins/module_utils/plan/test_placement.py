# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""On which member of a cluster a data center is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.placement import choose_member, placed
from ansible_collections.bcm.core.plugins.module_utils._plan.request import (
    Deployed,
    Member,
    ProjectState,
    Request,
    Volume,
)

MEMBERS = (Member("one", 1000), Member("two", 3000), Member("off", None), Member("three", 2000))


def _state(*volumes: str, stacks: dict[str, str] | None = None, members: Sequence[Member] = MEMBERS) -> ProjectState:
    return ProjectState(
        members=members,
        volumes=[Volume("default", f"v{number}", location=place) for number, place in enumerate(volumes)],
        stacks={name: Deployed(True, True, location=place) for name, place in (stacks or {}).items()},
    )


def _choose(found: ProjectState, host: str | None = None) -> str | None:
    member = choose_member(Request(["tor"], "regtest", "office", host=host), found)
    return member.name if member else None


def test_new_data_center_goes_where_it_is_told_or_where_most_memory_is_free() -> None:
    assert _choose(_state()) == "two"
    assert _choose(_state(), "one") == "one"
    assert _choose(_state(members=())) is None


def test_data_center_stays_where_its_volumes_and_instances_are() -> None:
    assert _choose(_state("one", "one")) == "one"
    assert _choose(_state(stacks={"tor": "three"}), "three") == "three"


@pytest.mark.parametrize(
    ("found", "host", "message"),
    [
        (_state(members=()), "one", "bcm_host says one, but the endpoint is in no cluster: leave it out"),
        (_state(), "tow", 'Unknown member "tow": did you mean "two"'),
        (_state(), "off", "Member off takes no instances now"),
        (_state("off"), None, "Member off takes no instances now"),
        (_state(members=(Member("off", None),)), None, "The cluster takes no instances now"),
        (_state("one"), "two", "bcm_host says two, but instances or volumes of the data center are on one"),
        (_state("one", stacks={"tor": "two"}), None, "Data center office is on several members, one, two"),
    ],
)
def test_place_that_cannot_be_is_refused(found: ProjectState, host: str | None, message: str) -> None:
    with pytest.raises(BcmError) as raised:
        _choose(found, host)
    assert message in str(raised.value)


def test_instances_and_volumes_are_made_there_and_networks_everywhere() -> None:
    kinds = ("network", "storage_volume", "instance")
    resources = [{"kind": kind, "name": kind, "state": "present"} for kind in kinds]
    gone = {"kind": "instance", "name": "old", "state": "absent"}
    found = placed([*resources, gone], MEMBERS[1])
    assert [item.get("target") for item in found] == [None, "two", "two", None]
    assert placed([*resources, gone], None) == (*resources, gone)
