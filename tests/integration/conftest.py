# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every test on real LXD begins with: a base image, a client, and an instance that runs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import Outcome, reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import parse
from tests.support import LXD_DIR, PATIENCE, ROOT, Tools


@pytest.fixture(scope="session")
def variables(lxd_tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where LXD is, and which image an instance can be made of: the variables of an integration target."""
    config = tmp_path_factory.mktemp("integration") / "config.yml"
    told = {"prepare_endpoint": f"unix://{LXD_DIR}/unix.socket", "prepare_config": str(config)}
    lxd_tools.run("ansible-playbook", "--extra-vars", json.dumps(told), ROOT / "tests/integration/prepare.yml")
    return yaml.safe_load(config.read_text())


@pytest.fixture(scope="session")
def client(variables: dict[str, str]) -> Iterator[Client]:
    with Client(variables["bcm_test_endpoint"]) as client:
        yield client


def apply(client: Client, *items: dict[str, Any]) -> Outcome:
    return reconcile(client, [parse(item) for item in items])


@pytest.fixture(scope="session")
def instance(client: Client, variables: dict[str, str]) -> Iterator[str]:
    """The name of an instance that runs."""
    name = "bcm-test-one"
    devices = {"root": {"type": "disk", "pool": variables["bcm_test_pool"], "path": "/"}}
    image = variables["bcm_test_image"]
    apply(client, {"kind": "instance", "name": name, "image": image, "devices": devices, "state": "started"})
    yield name
    apply(client, {"kind": "instance", "name": name, "state": "absent", "force_stop": True})


class Site:
    """A data center, by its playbook, with an inventory of its own; ``told`` are variables of all runs."""

    def __init__(self, tools: Tools, folder: Path, datacenter: str, **told: Any) -> None:
        self._tools, self.folder = tools, folder
        self.project = datacenter_names(datacenter, "regtest").project
        self._inventory = folder / "hosts.yml"
        (folder / "group_vars").mkdir()
        for name in ("hosts.yml", "group_vars/all.yml"):
            (folder / name).write_text((ROOT / "inventories/local" / name).read_text())
        self._told = {"bcm_datacenter": datacenter, **told}

    def attempt(self, *flags: str, playbook: Path = ROOT / "site.yml", **more: Any) -> subprocess.CompletedProcess[str]:
        told = json.dumps({**self._told, **more})
        words = ["ansible-playbook", "--inventory", self._inventory, "--extra-vars", told, *flags, playbook]
        environment = self._tools.environment
        return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    def run(self, *flags: str, **more: Any) -> str:
        done = self.attempt(*flags, **more)
        if done.returncode:
            pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
        return done.stdout

    def inside(self, *argv: str) -> lxd_exec.ExecResult:
        """What a command in the instance of tor says."""
        with Client(str(LXD_DIR / "unix.socket"), project=self.project) as lxd:
            return lxd_exec.run(lxd, "tor", lxd_exec.Command(argv), deadline=PATIENCE)

    def goes(self) -> None:
        self.run(state="absent", delete_data=True)
