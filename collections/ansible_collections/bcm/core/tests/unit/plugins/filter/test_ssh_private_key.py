# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.filter.ssh_private_key import FilterModule, ssh_private_key


def test_it_has_its_name() -> None:
    assert FilterModule().filters()["ssh_private_key"]("A" * 43).startswith("-----BEGIN PRIVATE KEY-----\n")


def test_a_secret_of_another_size_is_refused() -> None:
    with pytest.raises(AnsibleFilterError, match="is not 256 bits"):
        ssh_private_key("A")
