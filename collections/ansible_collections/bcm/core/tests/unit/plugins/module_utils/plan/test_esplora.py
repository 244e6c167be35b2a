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
from ansible_collections.bcm.core.plugins.module_utils._base.fields import size_in_bytes
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.checks import check_assertions
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables


def check(**variables: Any) -> None:
    known, loader = Catalogue.read([]), DataLoader()
    stacks = [known["bitcoind"], known["esplora"]]
    given = {"bcm": {"chain": "regtest"}, **variables}
    check_assertions([known["esplora"]], RoleVariables(Templar(loader), loader, stacks, given))


def test_pruned_bitcoind_is_refused() -> None:
    with pytest.raises(BcmError, match="a pruned bitcoind has dropped them; set bitcoind_prune to 0"):
        check(bitcoind_prune=550)


@pytest.mark.parametrize("variables", [{}, {"esplora_lightmode": True}])
def test_bitcoind_that_has_all_blocks_is_accepted(variables: dict[str, Any]) -> None:
    check(**variables)


def test_index_has_more_than_twice_the_room_of_blocks() -> None:
    """Preflight compares that with the pool before anything is baked."""
    known = Catalogue.read([])
    blocks, index = known["bitcoind"].volumes["data"], known["esplora"].volumes["data"]
    for chain in ("mainnet", "testnet3", "testnet4", "signet"):
        assert size_in_bytes(index.size(chain)) > 2 * size_in_bytes(blocks.size(chain))
