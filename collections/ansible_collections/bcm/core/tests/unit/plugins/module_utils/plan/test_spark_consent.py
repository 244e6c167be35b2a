# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Software that nobody maintains runs on mainnet if a person says so."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.checks import check_assertions
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables


def check(chain: str, **variables: Any) -> None:
    stack = Catalogue.read([])["spark"]
    loader = DataLoader()
    given = {"bcm": {"chain": chain}, **variables}
    check_assertions([stack], RoleVariables(Templar(loader), loader, [stack], given))


def test_spark_is_refused_on_mainnet_without_consent() -> None:
    with pytest.raises(
        BcmError, match="Nobody maintains Spark since April 2022.*set spark_accept_unmaintained to true"
    ):
        check("mainnet")


@pytest.mark.parametrize(("chain", "variables"), [("mainnet", {"spark_accept_unmaintained": True}), ("regtest", {})])
def test_spark_runs_with_consent_and_on_other_chains(chain: str, variables: dict[str, bool]) -> None:
    check(chain, **variables)
