# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin's pure parts; the rest is the integration target inventory_lxd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.inventory import lxd
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError


def instance(name: str = "one", project: str = "default", **config: str) -> dict[str, Any]:
    return {
        "name": name,
        "project": project,
        "status": "Running",
        "type": "container",
        "location": "none",
        "architecture": "x86_64",
        "profiles": ["default"],
        "expanded_config": config,
    }


def test_description_shows_names_and_no_secrets() -> None:
    config = {
        "user.bcm.stack": "tor",
        "user.user-data": "secret",
        "image.release": "trixie",
        "volatile.uuid": "1",
        "cloud-init.user-data": "secret",
    }
    shown = lxd.describe(instance(**config))
    assert shown["lxd_user"] == {"bcm.stack": "tor"}
    assert shown["lxd_image"] == {"release": "trixie"}
    assert shown["lxd_location"] == ""
    assert "secret" not in str(shown)


def test_groups() -> None:
    config = {f"user.bcm.{label}": label[:2] for label in ("stack", "tier", "chain", "datacenter")}
    assert lxd.groups_of(lxd.describe({**instance(**config), "location": "node1"})) == [
        "stack_st",
        "tier_ti",
        "chain_ch",
        "datacenter_da",
        "host_node1",
    ]
    assert lxd.groups_of(lxd.describe(instance())) == []


@pytest.mark.parametrize(
    ("name", "ours"), [("lxd.yml", True), ("home.bcm.yaml", True), ("hosts.yml", False), ("lxd.ini", False)]
)
def test_verify_file(tmp_path: Path, name: str, ours: bool) -> None:
    (tmp_path / name).touch()
    assert lxd.InventoryModule().verify_file(str(tmp_path / name)) is ours


class Server:
    """A client that knows two projects."""

    class endpoint:
        name = "here"

    known = [instance("one", "bcm-a"), instance("two", "bcm-b"), instance("three", "other")]

    def get(self, path: str, *, project: Any, **_params: Any) -> list[dict[str, Any]]:
        return [item for item in self.known if project is None or item["project"] == project]

    def find(self, path: str, **_params: Any) -> Any:
        return {} if path.endswith("/empty") else None


def names(project: str) -> list[str]:
    return [item["name"] for item in lxd._instances(Server(), project)]  # type: ignore[arg-type]


def test_projects() -> None:
    assert names("bcm-a") == ["one"]
    assert names("bcm-*") == ["one", "two"]
    assert names("nothing-*") == []
    assert names("empty") == []
    with pytest.raises(LxdError, match='there is no project "missing" at here'):
        names("missing")
