# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.image_choice import ImageNames
from ansible_collections.bcm.core.plugins.module_utils._plan.request import ProjectState

from .conftest import MakePlanner


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bitcoind_prun", "bitcoind_prune"),
        ("bitcoind_dbcahce", "bitcoind_dbcache"),
        ("bitcoind_data_sise", "bitcoind_data_size"),
        ("bitcoind_root_siz", "bitcoind_root_size"),
        ("bitcoind_memry", "bitcoind_memory"),
        ("tor_proceses", "tor_processes"),
        ("electrs_sorce", "electrs_source"),
        ("lnd_memorry", "lnd_memory"),  # of a stack that is not asked for
        ("bitcond_prune", "bitcoind_prune"),
    ],
)
def test_misspelt_variables_are_refused_before_the_endpoint_is_asked(
    planner: MakePlanner, name: str, meant: str
) -> None:
    with pytest.raises(BcmError, match=rf'Unknown variable "{name}": did you mean "{meant}"\?') as error:
        planner("electrs", variables={name: 1}).check()
    assert error.value.code == "unknown_name"


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_misspelt_variables_do_not_keep_a_stack_from_being_taken_down(
    planner: MakePlanner, namer: ImageNames, state: str
) -> None:
    planner("electrs", state=state, variables={"bitcoind_prun": 1}).plan(ProjectState(), namer)


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("bitcoind_entirely_else", True),
        ("bitcoind_x", True),
        ("bitcoind", False),
        ("bitcoin_core", False),
        ("my_prune", False),
        ("lnd_memory", False),
        ("tor_data_size", False),
    ],
)
def test_variables_that_nothing_reads_are_warned_about(
    planner: MakePlanner, namer: ImageNames, name: str, warned: bool
) -> None:
    plan = planner("electrs", variables={name: "1GiB"}).plan(ProjectState(), namer)
    said = [f"Variable {name} has the prefix of stack bitcoind, but is not one of its variables"]
    assert [text for text in plan["warnings"] if name in text] == (said if warned else [])
