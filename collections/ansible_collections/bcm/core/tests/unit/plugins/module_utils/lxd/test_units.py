# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What units are in need of."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import units
from ansible_collections.bcm.core.plugins.module_utils._lxd.errors import LxdError


def state(active: str = "active", enabled: str = "enabled", stamp: str = "unit now", sub: str = "running") -> Any:
    return units._State("loaded", active, sub, enabled, False, stamp)


@pytest.mark.parametrize(
    ("unit", "found", "verbs"),
    [
        ({}, state(), []),
        ({}, state(stamp="before"), ["restart"]),
        ({"action": "reload"}, state(stamp="unit before"), ["reload"]),
        ({"action": "reload"}, state(stamp="defined before"), ["restart"]),
        ({"action": "reload"}, state(stamp="other now"), ["restart"]),
        ({"action": "reload"}, state(stamp=""), ["restart"]),
        ({"action": "reload"}, state("inactive", stamp="before"), ["start"]),
        ({}, state("inactive"), ["start"]),
        ({}, state("failed"), ["start"]),
        # It comes up with the files it has to have: wait for it, and do not make it begin again.
        ({}, state("activating", sub="start"), ["start"]),
        ({}, state("activating", sub="start", stamp="before"), ["restart"]),
        ({}, state("inactive", "disabled", ""), ["enable", "start"]),
        ({}, state(enabled="static"), []),
        ({"enabled": False}, state(), ["disable"]),
        ({"enabled": False}, state(enabled="disabled"), []),
        ({"state": "stopped"}, state(), ["stop"]),
        ({"state": "stopped"}, state("inactive", "disabled"), []),
        ({"state": "stopped"}, state("failed", stamp="before"), []),
        ({"state": "stopped", "enabled": True}, state("inactive", "disabled"), ["enable"]),
    ],
)
def test_plan(unit: dict[str, Any], found: Any, verbs: list[str]) -> None:
    assert units.plan_unit(unit, found, "unit now") == verbs


def test_names() -> None:
    assert units._checked("tor") == units._checked("tor.service") == "tor"
    assert units._full("tor") == "tor.service"
    assert units._full("backup@daily.timer") == "backup@daily.timer"
    for name in ("../passwd", "a b", "", "-x/"):
        with pytest.raises(LxdError, match="is not the name of a unit"):
            units._checked(name)
