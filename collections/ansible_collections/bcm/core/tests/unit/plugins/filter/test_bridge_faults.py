# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.filter.bridge_faults import FilterModule, bridge_faults


def test_it_has_its_name() -> None:
    assert FilterModule().filters()["bridge_faults"](["192.0.2.1:443"]) == []


def test_the_line_is_called_by_its_number() -> None:
    (fault,) = bridge_faults(["192.0.2.1:443", "obfs4 x"], {})
    assert fault == "line 2 of tor_bridges: ADDRESS:PORT is missing"


@pytest.mark.parametrize("lines", ["192.0.2.1:443", [1], {}])
def test_lines_that_are_not_a_list_are_a_fault(lines: Any) -> None:
    assert bridge_faults(lines) == ["tor_bridges is not a list of lines"]


def test_hosts_that_are_not_a_mapping_are_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="bridge_faults needs a mapping"):
        bridge_faults([], ["a"])
