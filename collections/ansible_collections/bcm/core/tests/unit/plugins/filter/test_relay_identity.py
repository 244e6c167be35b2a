# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.filter.relay_identity import FilterModule, relay_identity
from ansible_collections.bcm.core.plugins.module_utils._tor.relay import new_identity


def test_both_keys_have_the_format_of_tor() -> None:
    identity = new_identity()
    given = relay_identity(identity.text)
    # as lxd_unit writes it
    assert given["ed25519"].encode(errors="surrogateescape") == identity.master_file
    assert (given["rsa"], given["fingerprint"]) == (identity.rsa, identity.fingerprint)


@pytest.mark.parametrize("secret", ["", "ED25519-V3:AAAA\nno key", "a token of another kind"])
def test_a_malformed_identity_is_refused(secret: str) -> None:
    with pytest.raises(AnsibleFilterError, match="restore a copy of it"):
        relay_identity(secret)


def test_a_damaged_key_is_not_shown() -> None:
    master, _end, pem = new_identity().text.partition("\n")
    with pytest.raises(AnsibleFilterError, match="The key of the relay is malformed") as caught:
        relay_identity(f"{master[:-8]}\n{pem}")
    assert master[11:60] not in str(caught.value)


def test_ansible_finds_it() -> None:
    assert FilterModule().filters() == {"relay_identity": relay_identity}
