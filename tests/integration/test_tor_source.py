# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A data center whose tor comes from a signed apt repository, and enters the network through an obfs4 bridge."""

from __future__ import annotations

import json
import platform
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pysequoia import Tsk

from ansible_collections.bcm.core.plugins.module_utils._image.sources import mirrors
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.artifact.test_apt import Apt, Repository
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.artifact.test_artifacts import Server
from tests import tornet
from tests.integration.conftest import Site
from tests.support import LXD_DIR, RELAYS, Tools

pytestmark = pytest.mark.containers

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


@dataclass
class Published:
    """Debian's tor in a repository of the test's own."""

    repository: Repository
    version: str
    address: str


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    folder = tmp_path_factory.mktemp("published")
    where = mirrors({})
    assert where is not None
    # Tests may meet an archive whose signed date is past.
    sources = where.lines("/usr/share/keyrings/debian-archive-keyring.gpg")
    debian = Apt(folder / "debian", sources, "Acquire::Check-Valid-Until=false", architecture=ARCHITECTURE)
    said = debian.says()
    package = next(debian.folder.glob("tor_*.deb"), None)
    assert package, said
    version = subprocess.run(
        ["dpkg-deb", "--field", package, "Version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    repository = Repository(folder / "source/tor", Tsk.generate("archive"))
    repository.add(package.read_bytes(), version, architecture=ARCHITECTURE)
    repository.publish()
    repository.write_key(repository.root)
    with Server(folder / "source") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield Published(repository, version, server.url)
        server.shutdown()


@pytest.fixture
def pool(lxd_tools: Tools) -> Iterator[str]:
    """A second storage pool. It can only go if nothing is left in it."""
    name = "bcm-test-second"
    with Client(str(LXD_DIR / "unix.socket")) as lxd:
        lxd.call("POST", "/1.0/storage-pools", {"name": name, "driver": "dir"}, what="make a pool", project=None)
        yield name
        lxd.call("DELETE", f"/1.0/storage-pools/{name}", what="delete the pool", project=None)


@pytest.fixture
def site(lxd_tools: Tools, tmp_path: Path, relays: tornet.TorNetwork, published: Published) -> Iterator[Site]:
    repository = {"url": "https://deb.example.org/torproject.org", "suite": "trixie"}
    site = Site(
        *(lxd_tools, tmp_path, "bridged"),
        bcm_artifact_source=published.address,
        bcm_artifacts={"tor": {"repository": repository, "signers": {"test": published.repository.fingerprint}}},
        stack="tor",
        tor_network=True,
        tor_lines=relays.lines,
    )
    yield site
    site.goes()


def test_from_a_repository_and_through_a_bridge(
    pool: str, site: Site, relays: tornet.TorNetwork, published: Published, tmp_path: Path
) -> None:
    bridge = tornet.Bridge(relays, "bridge", RELAYS)
    done = site.attempt(tor_bridges=[bridge.line.replace(":", "", 1)])
    assert done.returncode
    assert "line 1 of tor_bridges: ADDRESS:PORT is missing; write" in done.stdout + done.stderr

    # the verify tasks prove that tor has reached the network
    assert RELAYS not in site.run(tor_bridges=[bridge.line]), "a bridge is nothing for a log"
    asked = ("dpkg-query", "--show", "--showformat=${Version}", "tor")
    assert site.inside(*asked).stdout.decode() == published.version
    sockets = ("ss", "--no-header", "--tcp", "--processes", "state", "established")
    outside = site.inside(*sockets).stdout.decode()
    with Client(str(LXD_DIR / "unix.socket"), project=site.project) as lxd:
        made_of = json.loads(lxd.get("/1.0/instances/tor")["config"]["image.bcm.artifact"])
    package = published.repository.packages[0]
    assert (made_of["kind"], made_of["signers"]) == ("apt", ["test"]) and made_of["digest"] in package
    assert f"{RELAYS}:{bridge.port}" in outside
    assert outside.count(RELAYS) == outside.count(f"{RELAYS}:{bridge.port}"), "more than the bridge was connected to"

    # Another pool: nothing begins without the data, which moves if that is said, and is found there when it goes.
    refused = site.attempt(tor_bridges=[bridge.line], bcm_storage_pool=pool)
    assert "there is default/tor-data: set bcm_storage_pool to default, or move the volumes with" in refused.stdout
    site.inside("touch", "/var/lib/tor/kept")
    site.run(tor_bridges=[bridge.line], bcm_storage_pool=pool, move_volumes=True)
    assert site.inside("ls", "/var/lib/tor/kept").returncode == 0
    with Client(str(LXD_DIR / "unix.socket"), project=site.project) as lxd:
        assert lxd.get("/1.0/storage-pools/default/volumes/custom") == []
        assert lxd.get("/1.0/instances/tor")["devices"]["root"]["pool"] == pool

    key = published.repository.root / f"{published.repository.fingerprint}.asc"
    line = f"deb [signed-by={key}] {published.address}/tor trixie main"
    assert Apt(tmp_path / "apt", [line], "Acquire::http::Proxy=DIRECT", architecture=ARCHITECTURE).says() == ""
