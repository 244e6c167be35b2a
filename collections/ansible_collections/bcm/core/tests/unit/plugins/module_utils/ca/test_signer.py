# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Identities of root keys; what a device derives of them is in test_trezor_double."""

from __future__ import annotations

from ansible_collections.bcm.core.plugins.module_utils._ca.signer import Identity


class _Other(Identity):
    """Of a URI whose path two official emulators have derived."""

    @property
    def uri(self) -> str:
        return "gpg://dc1.example"


def test_the_path_is_that_of_slip_0013() -> None:
    assert _Other("", 0).numbers == [2147483661, 2375538582, 3346694357, 3944014587, 3686258425]
    assert _Other("", 0).path == "m/13'/228054934'/1199210709'/1796530939'/1538774777'"


def test_each_data_center_and_generation_has_its_own() -> None:
    first = Identity("home.bcm", 1)
    assert first.uri == "gpg://x509-root@home.bcm/pki"
    assert len({first.path, Identity("home.bcm", 2).path, Identity("away.bcm", 1).path}) == 3
