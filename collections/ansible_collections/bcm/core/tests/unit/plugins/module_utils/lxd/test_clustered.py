# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is made on each member of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import parse
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.lxd.test_engine import Memory


class ClusterMemory(Memory):
    """A cluster of two members; ``made`` are the requests that make something: its name, the member, the config."""

    def __init__(self) -> None:
        super().__init__()
        self.server = {"environment": {"server_clustered": True}}
        self.made: list[tuple[str, str | None, Any]] = []

    def get(self, path: str, **query: Any) -> Any:
        if path == "/1.0/cluster/members":
            return [{"server_name": name} for name in ("one", "two")]
        return super().get(path, **query)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, *, what: str, **query: Any) -> None:
        if method == "POST" and body is not None:
            self.made.append((body["name"], query.get("target"), body["config"]))
            if query.get("target"):
                return
            self.objects.pop(f"{path}/{body['name']}", None)
            super().call(method, path, {**body, "description": "", "locations": ["one", "two"]}, what=what, **query)
            return
        super().call(method, path, body, what=what, **query)


def test_network_and_pool_are_announced_for_each_member_of_a_cluster() -> None:
    lxd = ClusterMemory()
    config = {"parent": "eth1", "ipv4.gateway": "x"}
    network = {"kind": "network", "name": "net", "type": "physical", "description": "d", "config": config}
    pool = {"kind": "storage_pool", "name": "pool", "driver": "zfs", "config": {"size": "9GiB"}}
    reconcile(lxd, [parse(network), parse(pool)])  # type: ignore[arg-type]
    assert sorted(lxd.made, key=str) == sorted(
        [
            ("net", "one", {"parent": "eth1"}), ("net", "two", {"parent": "eth1"}),
            ("net", None, {"ipv4.gateway": "x"}),
            ("pool", "one", {"size": "9GiB"}), ("pool", "two", {"size": "9GiB"}), ("pool", None, {}),
        ],
        key=str,
    )  # fmt: skip
    assert lxd.objects["/1.0/networks/net"]["description"] == "d"
    assert reconcile(lxd, [parse(network), parse(pool)]).changes == []  # type: ignore[arg-type]


def test_network_that_a_killed_run_left_unfinished_is_completed() -> None:
    lxd = ClusterMemory()
    lxd.objects["/1.0/networks/net"] = {"name": "net", "status": "Pending", "locations": ["one"], "config": {}}
    outcome = reconcile(lxd, [parse({"kind": "network", "name": "net", "type": "bridge"})])  # type: ignore[arg-type]
    assert [change["action"] for change in outcome.changes] == ["create"]
    assert [target for _name, target, _config in lxd.made] == ["two", None]


def test_server_in_no_cluster_keeps_what_it_says_of_a_pool() -> None:
    """It refuses a change of the source, so one that is not given has to be sent as it is."""
    lxd = Memory()
    before = {"source": "/srv/pool", "user.a": "1"}
    lxd.objects["/1.0/storage-pools/pool"] = {
        "name": "pool", "driver": "dir", "description": "", "config": before,
        "status": "Created", "locations": ["none"],
    }  # fmt: skip
    pool = {"kind": "storage_pool", "name": "pool", "config": {"user.a": "2"}}
    reconcile(lxd, [parse(pool)])  # type: ignore[arg-type]
    assert lxd.objects["/1.0/storage-pools/pool"]["config"] == {**before, "user.a": "2"}
