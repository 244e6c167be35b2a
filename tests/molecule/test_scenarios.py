# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule scenarios: the collection's, one for each role, in one data center; and those of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from tests import clightning
from tests.support import COLLECTION, ROOT, Tools, delete_unused_images

#: what all other stacks need: without it nothing is left
FOUNDATION = "tor"
ROLES, WHOLE = (
    sorted(path.parent.name for path in folder.glob("molecule/*/molecule.yml"))
    for folder in (COLLECTION / "extensions", ROOT)
)


@pytest.fixture(scope="module")
def datacenter(lxd_tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tools]:
    """What deploys a role in the data center of all roles, which is removed at the end.

    A stack that no later scenario needs is removed by its own one, as a small disk has no room for all of them.

    The folder that Molecule would have for each scenario is one for all: its secrets are the data center's.
    """
    settings = clightning.environment(tmp_path_factory.mktemp("releases"))
    tools = Tools({"MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path_factory.mktemp("molecule")), **settings})
    yield tools
    tools.run("molecule", "destroy", "--scenario-name", FOUNDATION, cwd=COLLECTION)


@pytest.mark.containers
@pytest.mark.parametrize("scenario", ROLES)
def test_role(datacenter: Tools, scenario: str) -> None:
    command = ("molecule", "test", "--destroy=never", "--scenario-name", scenario)
    datacenter.run(*command, cwd=COLLECTION, timeout=1800)
    if not _is_needed_later(scenario):
        # Molecule itself would remove the folder with the secrets of all of them.
        folder, own = Path(datacenter.environment["MOLECULE_EPHEMERAL_DIRECTORY"]), COLLECTION / "extensions/molecule"
        inventories = (f"--inventory={path}/inventory" for path in (folder, own))
        datacenter.run("ansible-playbook", *inventories, f"--extra-vars=stack={scenario}", own / "destroy.yml")
        delete_unused_images()


def _is_needed_later(stack: str) -> bool:
    """Whether a stack is one that stacks of later scenarios need, or use if it is there."""
    catalogue = Catalogue.read()
    return any(
        stack in {*catalogue.closure([other]), *catalogue[other].needs, *chain(*catalogue[other].alternatives.values())}
        for other in ROLES[ROLES.index(stack) + 1 :]
    )


@pytest.mark.containers
@pytest.mark.parametrize("scenario", WHOLE)
def test_whole(lxd_tools: Tools, scenario: str, tmp_path: Path) -> None:
    # what a run that was killed left in the folder that Molecule would take is not this one's
    tools = Tools({"MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path)})
    tools.run("molecule", "test", "--scenario-name", scenario, cwd=ROOT, timeout=1800)
