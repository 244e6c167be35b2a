# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule scenarios: the collection's, one for each role, in one data center; and those of the whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clightning
from tests.support import COLLECTION, ROOT, Tools, delete_unused_images

# what all stacks need, so that nothing outlives it
FOUNDATION = "tor"
ROLES, WHOLE = (
    sorted(path.parent.name for path in folder.glob("molecule/*/molecule.yml"))
    for folder in (COLLECTION / "extensions", ROOT)
)
# of its own, which the others must not have
WITH_SETTINGS = {
    name for name in ROLES if (COLLECTION / f"extensions/molecule/{name}/molecule.yml").read_text().strip() != "---"
}


@pytest.fixture(scope="module")
def datacenter(lxd_tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """What runs the scenarios of roles in the data center of all roles, which is removed at the end.

    The folder that Molecule would have for each scenario is one for all: its secrets are the data center's.
    """
    settings = clightning.environment(tmp_path_factory.mktemp("releases"))
    tools = Tools({"MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path_factory.mktemp("molecule")), **settings})
    try:
        yield tools
    finally:
        tools.run("molecule", "destroy", "--scenario-name", FOUNDATION, cwd=COLLECTION)
        delete_unused_images()


def run_scenario(tools: Tools, name: str, *words: str) -> str:
    return tools.run(
        "molecule", "test", "--destroy=never", "--scenario-name", name, *words, cwd=COLLECTION, timeout=3600
    )


@pytest.fixture(scope="module")
def output(datacenter: Tools, request: pytest.FixtureRequest) -> str:
    """What Molecule says of the roles whose tests are selected, all at once. The playbooks take several."""
    items = (item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function))
    selected = {item.callspec.params["scenario"] for item in items if item.originalname == test_role.__name__}
    return run_scenario(datacenter, FOUNDATION, "--", f"--extra-vars=stack={','.join(sorted(selected))}")


@pytest.mark.containers
@pytest.mark.parametrize("scenario", sorted({*ROLES} - WITH_SETTINGS))
def test_role(output: str, scenario: str) -> None:
    verified = output.rpartition("PLAY RECAP")[2]
    assert re.search(rf"^{scenario} +: ok=[1-9].* unreachable=0 +failed=0 ", verified, re.M), output


@pytest.mark.containers
@pytest.mark.parametrize("scenario", sorted(WITH_SETTINGS))
def test_role_with_settings(datacenter: Tools, scenario: str) -> None:
    run_scenario(datacenter, scenario)


@pytest.mark.containers
@pytest.mark.parametrize("scenario", WHOLE)
def test_whole(lxd_tools: Tools, scenario: str, tmp_path: Path) -> None:
    # what a run that was killed left in the folder that Molecule would take is not this one's
    tools = Tools({"MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path)})
    tools.run("molecule", "test", "--scenario-name", scenario, cwd=ROOT, timeout=1800)
