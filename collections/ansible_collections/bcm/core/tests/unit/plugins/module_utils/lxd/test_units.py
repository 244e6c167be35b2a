# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What units are in need of."""

from __future__ import annotations

from typing import Any, cast

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import units
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import ExecResult
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError


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


class Systemd:
    """The shell of an instance that booted some seconds ago."""

    def __init__(self, age: str) -> None:
        self.age = age
        self.commands: list[str] = []

    def run(self, command: str, **_more: Any) -> ExecResult:
        self.commands.append(command)
        return ExecResult(0, self.age.encode() if command.startswith("date") else b"", b"")


@pytest.mark.parametrize(
    ("age", "patient"), [("5000\n@4401\n", True), ("5000\n@4400\n", False), ("5000\n@9000\n", True), ("5000\n", False)]
)
def test_unit_that_systemd_starts_again_and_again_is_waited_for_after_a_boot(age: str, patient: bool) -> None:
    shell: Any = Systemd(age)
    manager = units._Manager("one", shell, session=cast("Any", None), deadline=100.0)
    manager.apply("lab", state("activating", sub="auto-restart"), ["start"])
    assert ("until systemctl" in shell.commands[-1]) == patient


FILES: list[dict[str, Any]] = [
    {"path": "/etc/lab/conf", "content": b"word"},
    {"path": "/etc/systemd/system/lab.service", "content": b"[Service]"},
    {"path": "/etc/systemd/system/lab.service.d/10-more.conf", "content": b"[Service]"},
]
VERSIONS = {item["path"]: f"{number} today" for number, item in enumerate(FILES)}


@pytest.mark.parametrize(
    ("path", "same"),
    [
        ("/etc/lab/conf", (True, False)),
        ("/etc/systemd/system/lab.service", (False, True)),
        ("/etc/systemd/system/lab.service.d/10-more.conf", (False, True)),
        ("/etc/systemd/system/lab.service.d", (False, True)),
    ],
)
def test_file_that_was_touched_and_put_back_makes_another_stamp(path: str, same: tuple[bool, bool]) -> None:
    now, then = (units.stamp(FILES, found).split() for found in (VERSIONS, {**VERSIONS, path: "9 tomorrow"}))
    assert tuple(one == other for one, other in zip(now, then, strict=True)) == same


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("other", [{"content": b"other"}, {"mode": 0o600}, {"owner": "lab"}, {"state": "absent"}])
def test_other_settings_make_another_stamp(number: int, other: dict[str, Any]) -> None:
    wanted = [{**item, **other} if item is FILES[number] else item for item in FILES]
    assert units.stamp(wanted, VERSIONS) != units.stamp(FILES, VERSIONS)


def test_foreign_definitions_are_found_for_own_units_only() -> None:
    added = (
        "/etc/systemd/system/lab.service.d/99-extra.conf",
        "/etc/systemd/system/service.d/all.conf",
        "/run/systemd/system/lab.service.d/a.conf",
        "/etc/systemd/system.control/lab.service.d/50-MemoryMax.conf",
        "/run/systemd/transient/lab.service",
        "/usr/local/lib/systemd/system/lab.service.d/b.conf",
    )
    theirs = ("/usr/lib/systemd/system/service.d/10.conf", "/run/systemd/generator/lab.service.d/x.conf")
    found = state()
    ours = units._State("loaded", "active", "running", "enabled", False, "", ("", FILES[1]["path"], *added, *theirs))
    assert units.find_foreign_definitions(FILES, {"lab": ours, "other": found}) == sorted(added)
    assert units.find_foreign_definitions(FILES[:1], {"lab": ours}) == []
    assert units.find_foreign_definitions([], {"lab": ours}) == []


def test_names() -> None:
    assert units._checked("tor") == units._checked("tor.service") == "tor"
    assert units._full("tor") == "tor.service"
    assert units._full("backup@daily.timer") == "backup@daily.timer"
    for name in ("../passwd", "a b", "", "-x/"):
        with pytest.raises(LxdError, match="is not the name of a unit"):
            units._checked(name)


def test_properties_that_systemctl_leaves_out_are_refused() -> None:
    whole = "\n".join(f"{name}=" for name in units._PROPERTIES)
    assert [set(block) for block in units.properties(f"{whole}\n\n{whole}", 2)] == [set(units._PROPERTIES)] * 2
    for shown in ("", "x", whole.replace("SubState", "State"), f"{whole}\n\n{whole}"):
        with pytest.raises(ValueError, match="with its state"):
            units.properties(shown, 1)
