# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import hmac

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.filter.rpcauth import FilterModule, rpcauth


def test_bitcoind_accepts_the_password() -> None:
    # What bitcoind computes when a user logs in (httprpc.cpp, CheckUserAuthorized).
    user, _colon, rest = rpcauth("secret", "electrs").partition(":")
    salt, _dollar, expected = rest.partition("$")
    assert user == "electrs"
    assert hmac.new(salt.encode(), b"secret", hashlib.sha256).hexdigest() == expected


def test_salt_is_as_long_as_that_of_bitcoin_and_stays() -> None:
    value = rpcauth("secret", "electrs")
    assert len(value.partition(":")[2].partition("$")[0]) == 32
    assert value == rpcauth("secret", "electrs")


@pytest.mark.parametrize("other", [rpcauth("secret", "lnd"), rpcauth("other", "electrs")])
def test_salts_differ(other: str) -> None:
    salt = rpcauth("secret", "electrs").partition(":")[2].partition("$")[0]
    assert salt not in other


@pytest.mark.parametrize(("password", "user"), [("", "electrs"), ("secret", ""), (None, "electrs"), ("secret", None)])
def test_nothing_without_password_and_user(password: object, user: object) -> None:
    with pytest.raises(AnsibleFilterError, match="rpcauth needs a password"):
        rpcauth(password, user)


def test_ansible_finds_it() -> None:
    assert FilterModule().filters() == {"rpcauth": rpcauth}
