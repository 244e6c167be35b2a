# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every test on real LXD begins with: a base image, a client, and an instance that runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import Outcome, reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import parse
from tests.support import LXD_DIR, ROOT, Tools


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
