# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Integration targets: each module and plugin on real LXD, through ansible-test as the field runs them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.support import COLLECTION, Tools

INTEGRATION = COLLECTION / "tests/integration"
TARGETS = sorted(path.name for path in INTEGRATION.glob("targets/*") if not path.name.startswith("setup_"))
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def config(variables: dict[str, str]) -> Iterator[None]:
    """ansible-test hands on no environment, but it reads a file."""
    path = INTEGRATION / "integration_config.yml"
    path.write_text(json.dumps(variables))
    yield
    path.unlink()


@pytest.mark.containers
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.usefixtures("config")
def test_target(lxd_tools: Tools, target: str) -> None:
    lxd_tools.run("ansible-test", "integration", "--python", PYTHON, "--color=no", target, cwd=COLLECTION)
