# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Molecule scenarios, each from nothing to nothing: the collection's, one for each role, and those of the whole."""

from __future__ import annotations

import pytest

from tests.support import COLLECTION, ROOT, Tools

SCENARIOS = {
    path.parent.name: folder
    for folder, pattern in ((COLLECTION, "extensions/molecule/*/molecule.yml"), (ROOT, "molecule/*/molecule.yml"))
    for path in sorted(folder.glob(pattern))
}


@pytest.mark.containers
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(lxd_tools: Tools, scenario: str) -> None:
    lxd_tools.run("molecule", "test", "--scenario-name", scenario, cwd=SCENARIOS[scenario], timeout=1800)
