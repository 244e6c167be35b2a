# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.bcm.core.plugins.filter.backup_target_faults import FilterModule


def test_it_has_its_name() -> None:
    fault_of = FilterModule().filters()["backup_target_faults"]
    assert fault_of({}) == []
    assert len(fault_of({"box": {"type": "x"}})) == 1
