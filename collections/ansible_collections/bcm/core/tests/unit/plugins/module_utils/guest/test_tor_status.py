# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the answers of a SOCKS port mean for an onion service; tests/tor has the answers."""

from __future__ import annotations

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.tor_status import _state

NO_KEY = 0xF4


@pytest.mark.parametrize(
    ("authorization", "key", "without", "given", "state", "fault"),
    [
        (True, "x25519:", NO_KEY, 0, "refuses without a key, answers with one", None),
        (True, None, NO_KEY, None, "refuses without a key; no client has one", None),
        (
            True,
            "x25519:",
            NO_KEY,
            0xF5,
            "refuses without a key",
            "does not answer to a client with a key: it does not know the key",
        ),
        (True, "x25519:", 0, None, "OPEN to all clients", "answers without a key"),
        (False, None, 0, None, "answers all clients", None),
        (False, None, 0xF0, None, "does not answer", "does not answer: no directory has its descriptor"),
        (False, None, 0x99, None, "does not answer", "does not answer: tor says 153"),
        (False, None, None, None, "not published: tor does not use the network", None),
    ],
)
def test_each_state_of_a_service_is_reported(
    authorization: bool, key: str | None, without: int | None, given: int | None, state: str, fault: str | None
) -> None:
    assert _state({"authorization": authorization, "key": key}, without, given) == (state, fault)
