# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A wallet that signs by itself asks on mainnet, and directory servers are onion services."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.checks import check_assertions
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables

ONION = "a" * 56 + ".onion:5222"
CONSENT = {"joinmarket_maker": True, "joinmarket_accept_hot_wallet": True}


def check(chain: str, **variables: Any) -> None:
    stack = Catalogue.read([])["joinmarket"]
    loader = DataLoader()
    given = {"bcm": {"chain": chain}, **variables}
    check_assertions([stack], RoleVariables(Templar(loader), loader, [stack], given))


@pytest.mark.parametrize(
    ("chain", "variables", "message"),
    [
        ("mainnet", {"joinmarket_maker": True}, "set joinmarket_accept_hot_wallet to true"),
        ("mainnet", {"joinmarket_directory_servers": ["example.org:5222"]}, "example.org:5222.* is not an onion"),
        ("signet", {"joinmarket_directory_servers": [f"{ONION}\n"]}, "is not an onion address"),
        ("testnet3", {}, "names none on testnet3"),
        ("mainnet", {"joinmarket_directory_servers": []}, "names none on mainnet"),
        ("regtest", {"joinmarket_maker_fee": "2"}, "joinmarket_maker_fee is 2, which is no share"),
        ("regtest", {"joinmarket_bond_until": "2027-13"}, "joinmarket_bond_until is 2027-13, which is no month"),
    ],
)
def test_what_would_harm_is_refused(chain: str, variables: dict[str, Any], message: str) -> None:
    with pytest.raises(BcmError, match=message):
        check(chain, **variables)


@pytest.mark.parametrize(
    ("chain", "variables"),
    [
        ("mainnet", {}),
        ("signet", {}),
        ("mainnet", CONSENT),
        ("regtest", {"joinmarket_maker": True, "joinmarket_directory_servers": ["127.0.0.1:5222"]}),
        ("testnet3", {"joinmarket_directory_servers": [ONION], "joinmarket_bond_until": "2027-12"}),
    ],
)
def test_what_a_person_asks_for_is_taken(chain: str, variables: dict[str, Any]) -> None:
    check(chain, **variables)
