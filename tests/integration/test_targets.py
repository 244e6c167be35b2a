# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Integration targets: each module and plugin on real LXD, through ansible-test as the field runs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.support import COLLECTION, LXD_DIR, ROOT, Tools

INTEGRATION = COLLECTION / "tests/integration"
TARGETS = sorted(path.name for path in INTEGRATION.glob("targets/*") if not path.name.startswith("setup_"))
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def variables(lxd_tools: Tools) -> Iterator[None]:
    """ansible-test hands on no environment: a file says where LXD is, and which image an instance can be made of."""
    config = INTEGRATION / "integration_config.yml"
    prepare = ROOT / "tests/integration/prepare.yml"
    told = {"prepare_endpoint": f"unix://{LXD_DIR}/unix.socket", "prepare_config": str(config)}
    lxd_tools.run("ansible-playbook", "--extra-vars", json.dumps(told), prepare)
    yield
    config.unlink()


@pytest.mark.containers
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("variables")
def test_target(lxd_tools: Tools, target: str) -> None:
    lxd_tools.run("ansible-test", "integration", "--python", PYTHON, "--color=no", target, cwd=COLLECTION)
