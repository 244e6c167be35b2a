# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which programs elsewhere an inventory may let read events: names that are part of Kafka's configuration."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.checks import check_assertions
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables


def check(clients: Any) -> None:
    stack = Catalogue.read([])["kafka"]
    loader = DataLoader()
    check_assertions([stack], RoleVariables(Templar(loader), loader, [stack], {"kafka_clients": clients}))


def test_topics_and_all_of_a_stack_may_be_read() -> None:
    check({})
    check({"alice": ["bitcoind.block", "lnd.*"], "bob-2": []})


@pytest.mark.parametrize(
    "clients",
    [
        {"Alice": []},
        {'a" user_bcm_admin="x': []},
        {"a\n": []},
        {"alice": "bitcoind.block"},
        {"alice": ["*"]},
        {"alice": ["bitcoind*"]},
        {"alice": ["bitcoind.*\n"]},
        {"alice": ["__consumer_offsets"]},
        {"alice": [7]},
    ],
)
def test_what_is_no_name_or_topic_is_refused(clients: Any) -> None:
    with pytest.raises(BcmError, match="kafka_clients has something else than names"):
        check(clients)
