# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The chain of Elements beside each chain of a data center, and where its coins come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Stack
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables


def liquid(chain: str) -> Stack:
    loader = DataLoader()

    def variables_of(stacks: Sequence[Stack]) -> RoleVariables:
        return RoleVariables(Templar(loader), loader, stacks, {"bcm": {"chain": chain}})

    return Catalogue.read([]).resolved(variables_of)["liquid"]


def rendered(chain: str, name: str) -> Any:
    stack, loader = liquid(chain), DataLoader()
    variables = loader.load_from_file(f"{stack.role_path}/vars/main.yml")
    own = {key: trust_as_template(value) for key, value in variables.items() if isinstance(value, str)}
    return Templar(loader, variables={**own, "bcm": {"chain": chain}}).template(own[name])


@pytest.mark.parametrize(
    ("chain", "name", "port"),
    [
        ("mainnet", "liquidv1", 7041),
        ("testnet3", "liquidtestnet", 7039),
        ("testnet4", "liquidtestnet", 7039),
        ("signet", "liquidtestnet", 7039),
        ("regtest", "elementsregtest", 7040),
    ],
)
def test_each_chain_has_one_of_elements(chain: str, name: str, port: int) -> None:
    assert rendered(chain, "liquid_chain") == name
    assert liquid(chain).services["rpc"].ports[chain] == port


@pytest.mark.parametrize(
    ("chain", "needs"),
    [("mainnet", {"tor", "bitcoind"}), ("regtest", {"tor", "bitcoind"}), ("signet", {"tor"}), ("testnet4", {"tor"})],
)
def test_bitcoind_is_needed_where_coins_come_from_it(chain: str, needs: set[str]) -> None:
    assert set(liquid(chain).needs) == needs
