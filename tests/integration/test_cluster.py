# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three machines become one cluster, and one of them leaves it. One test goes on from the one before it, as days do."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests.cli.conftest import PROJECT, Checkout, checkout_at
from tests.integration.clusters import Daemon, daemons, tiny_image
from tests.integration.conftest import Site, apply
from tests.support import LXD_DIR, Tools, until

pytestmark = [pytest.mark.containers, pytest.mark.apart]

_VOLUME = {"kind": "storage_volume", "pool": "default", "content_type": "filesystem", "name": "coins"}


@pytest.fixture(scope="module")
def image_of_tor(lxd_tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In the disk cache: nothing can be baked on the machines here, whose networks have no way out."""
    site = Site(lxd_tools, tmp_path_factory.mktemp("baked"), "baked", stack="tor")
    site.run("--tags=images")
    site.goes()


@pytest.fixture(scope="module")
def machines() -> Iterator[list[Daemon]]:
    with daemons(LXD_DIR, "one", "two", "three") as made:
        yield made


@pytest.fixture(scope="module")
def first(machines: list[Daemon]) -> Iterator[Client]:
    with machines[0].client() as client:
        yield client


@pytest.fixture(scope="module")
def checkout(machines: list[Daemon], tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    made = checkout_at(tmp_path_factory.mktemp("cluster") / "bcm")
    assert made.bcm("config", "set", f"endpoint={machines[0].endpoint}").returncode == 0
    return made


def _done(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr


def _hosts(checkout: Checkout) -> dict[str, dict[str, Any]]:
    return {row["host"]: row for row in json.loads(_done(checkout.bcm("host", "status", "--json")))["hosts"]}


def test_nothing_is_changed_before_a_refusal(checkout: Checkout, machines: list[Daemon], first: Client) -> None:
    _one, two, _three = machines
    with two.client() as client:
        apply(client, _VOLUME)
        said = _refused(checkout.bcm("host", "add", two.endpoint, "--name", "two", "--yes"))
        assert "has what would be lost: storage-pools/default/volumes/custom/coins: remove that" in said
        apply(client, {**_VOLUME, "state": "absent"})
    said = _refused(checkout.bcm("host", "add", two.endpoint, "--name", "two"))
    assert "becomes a cluster of one member at 10.211.9.11:8443; that cannot be undone" in said
    assert f"{two.endpoint} joins the cluster as two at 10.211.9.12:8443" in said
    assert said.endswith("Nothing was changed: run it on a terminal, or add --yes\n")
    assert not first.get("/1.0")["environment"]["server_clustered"]


def test_machines_join(checkout: Checkout, machines: list[Daemon], first: Client) -> None:
    _one, two, three = machines
    joined = checkout.bcm("host", "add", two.endpoint, "--name", "two", "--yes")
    assert _done(joined) == "two is a member of the cluster\n"
    assert "is a member of the cluster already" in _done(checkout.bcm("host", "add", two.endpoint))
    # what a run leaves that was killed before the machine joined
    first.send("POST", "/1.0/cluster/members", {"server_name": "three"}, project=None)
    assert "choose another one with --name" in _refused(checkout.bcm("host", "add", three.endpoint, "--name", "two"))
    _done(checkout.bcm("host", "add", three.endpoint, "--name", "three", "--yes"))
    hosts = _hosts(checkout)
    assert {row["state"] for row in hosts.values()} == {"Online"}
    assert {"two", "three"} < hosts.keys()
    assert "database-leader" in next(row for name, row in hosts.items() if name not in ("two", "three"))["roles"]
    assert hosts["two"]["pool_free"] > 0


def test_data_center_is_on_one_member(image_of_tor: None, checkout: Checkout, first: Client) -> None:
    assert checkout.bcm("config", "set", "host=tow").returncode == 0
    start = ("stack", "start", "tor")
    assert 'Unknown member "tow": did you mean "two"?' in checkout.bcm(*start, seconds=300).stdout
    assert checkout.bcm("config", "set", "host=two").returncode == 0
    _done(checkout.bcm(*start, seconds=300))
    assert _hosts(checkout)["two"]["stacks"] == ["tor"]
    volumes = first.get("/1.0/storage-pools/default/volumes/custom", project=PROJECT, recursion=1)
    assert {item["location"] for item in volumes} == {"two"}
    again = _done(checkout.bcm(*start, seconds=300))
    assert "nothing changed" in again, again
    _done(checkout.bcm("stack", "remove", "tor", "--delete-data", "--yes", seconds=300))


@pytest.fixture
def instance(first: Client, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What is given of an instance that runs on the second machine."""
    image = tmp_path / "image.tar"
    image.write_bytes(tiny_image())
    name = {"kind": "image", "name": "tiny", "source": {"metadata": str(image)}}
    root = {"type": "disk", "pool": "default", "path": "/"}
    item = {"kind": "instance", "name": "moves", "image": "tiny", "devices": {"root": root}, "state": "started"}
    apply(first, name, {**item, "target": "two"})
    yield item
    apply(first, {**name, "state": "absent"}, {"kind": "instance", "name": "moves", "state": "absent"})


def test_member_is_drained_and_leaves(
    checkout: Checkout, machines: list[Daemon], first: Client, instance: dict[str, Any]
) -> None:
    apply(first, {**_VOLUME, "target": "two"})
    assert "has instance default/moves, volume default/default/coins" in _refused(checkout.bcm("host", "remove", "two"))
    coins = {"type": "disk", "pool": "default", "source": "coins", "path": "/coins"}
    apply(first, {**instance, "devices": {**instance["devices"], "coins": coins}})
    assert "default/moves has volume coins in a storage pool of that" in _refused(checkout.bcm("host", "drain", "two"))
    apply(first, instance)

    asked = _refused(checkout.bcm("host", "drain", "two"))
    assert "bcm: default/moves is moved to another member\n" in asked
    assert asked.endswith("Nothing was changed: run it on a terminal, or add --yes\n")
    assert _hosts(checkout)["two"]["others"] == ["default/moves"]
    assert "two is drained" in _done(checkout.bcm("host", "drain", "two", "--yes"))
    assert "two is drained already" in _done(checkout.bcm("host", "drain", "two"))
    row = _hosts(checkout)["two"]
    assert (row["state"], row["others"]) == ("Evacuated", [])
    moved = first.get("/1.0/instances/moves")
    assert (moved["status"], moved["location"] == "two") == ("Running", False)
    assert "bcm: default/moves is moved back\n" in _refused(checkout.bcm("host", "restore", "two"))
    assert "two takes instances again" in _done(checkout.bcm("host", "restore", "two", "--yes"))
    assert "two is not drained" in _done(checkout.bcm("host", "restore", "two"))
    row = _hosts(checkout)["two"]
    assert (row["state"], row["others"]) == ("Online", ["default/moves"])
    _done(checkout.bcm("host", "drain", "two", "--yes"))

    assert "has volume default/default/coins" in _refused(checkout.bcm("host", "remove", "two", "--yes"))
    apply(first, {**_VOLUME, "state": "absent"})
    assert "two is a member no more" in _done(checkout.bcm("host", "remove", "two", "--yes"))
    assert "two" not in _hosts(checkout)
    with machines[1].client() as client:
        assert not client.server["environment"]["server_clustered"]


def test_member_that_is_gone_is_given_up(checkout: Checkout, machines: list[Daemon], first: Client) -> None:
    apply(first, {**_VOLUME, "target": "three"})
    assert "three answers, so it is not lost" in _refused(checkout.bcm("host", "remove", "three", "--lost", "--yes"))
    config = {"config": {"cluster.offline_threshold": "11"}}
    first.call("PATCH", "/1.0", config, what="notice silence soon", project=None)
    machines[2].kill()
    until(lambda: _hosts(checkout)["three"]["state"] != "Online", "the silence is noticed")
    said = _refused(checkout.bcm("host", "remove", "three"))
    assert "three does not answer: start it; if it is gone for good with all that was on it, add --lost" in said
    asked = _refused(checkout.bcm("host", "remove", "three", "--lost"))
    assert "bcm: volume default/default/coins is lost\n" in asked
    assert "three is a member no more" in _done(checkout.bcm("host", "remove", "three", "--lost", "--yes"))
    assert "three" not in _hosts(checkout)
    assert first.get("/1.0/storage-pools/default/volumes/custom", project="default") == []
