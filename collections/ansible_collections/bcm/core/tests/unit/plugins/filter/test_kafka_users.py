# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.filter.kafka_users import FilterModule, kafka_users


def test_each_program_has_a_user_and_a_password_of_its_own() -> None:
    found = kafka_users({"alice": ["bitcoind.*"], "bob-2": []}, "secret")
    assert found == {
        "client_alice": hashlib.sha256(b"secret/alice").hexdigest(),
        "client_bob-2": hashlib.sha256(b"secret/bob-2").hexdigest(),
    }
    assert not set(found.values()) & set(kafka_users(["alice", "bob-2"], "another").values())


@pytest.mark.parametrize("secret", ["", None])
def test_nothing_without_a_secret(secret: object) -> None:
    with pytest.raises(AnsibleFilterError, match="kafka_users needs a secret"):
        kafka_users(["alice"], secret)


def test_ansible_finds_it() -> None:
    assert FilterModule().filters() == {"kafka_users": kafka_users}
