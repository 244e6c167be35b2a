# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the explorer asks of bitcoind's settings, before anything is made."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.checks import check_assertions
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables


def check(**variables: Any) -> None:
    known, loader = Catalogue.read([]), DataLoader()
    stacks = [known["bitcoind"], known["esplora"]]
    given = {"bcm": {"chain": "regtest"}, **variables}
    check_assertions([known["esplora"]], RoleVariables(Templar(loader), loader, stacks, given))


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"bitcoind_prune": 550}, "a pruned bitcoind has dropped them; set bitcoind_prune to 0"),
        ({"esplora_lightmode": True}, "needs an index of them; set bitcoind_options to {txindex: 1}"),
    ],
)
def test_bitcoind_that_lacks_what_it_reads_is_refused(variables: dict[str, Any], fault: str) -> None:
    with pytest.raises(BcmError, match=fault):
        check(**variables)


@pytest.mark.parametrize("variables", [{}, {"esplora_lightmode": True, "bitcoind_options": {"txindex": 1}}])
def test_bitcoind_that_has_it_is_accepted(variables: dict[str, Any]) -> None:
    check(**variables)
