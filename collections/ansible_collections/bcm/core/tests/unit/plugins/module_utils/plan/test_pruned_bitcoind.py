# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which stacks can do with a bitcoind that has dropped its old blocks."""

from __future__ import annotations

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.checks import check_assertions
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables


def check(name: str) -> None:
    catalogue, loader = Catalogue.read([]), DataLoader()
    stacks = [catalogue[name], catalogue["bitcoind"]]
    check_assertions(stacks, RoleVariables(Templar(loader), loader, stacks, {"bitcoind_prune": 550}))


@pytest.mark.parametrize("name", ["lnd", "clightning"])
def test_lightning_nodes_can(name: str) -> None:
    check(name)


@pytest.mark.parametrize("name", ["electrs", "esplora"])
def test_stacks_that_read_every_block_cannot(name: str) -> None:
    with pytest.raises(BcmError, match=f"{name} reads every block, and a pruned bitcoind has dropped them"):
        check(name)
