# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._tor.relay import new_identity, parse_identity


def test_identity_is_read_from_its_text_and_not_shown() -> None:
    identity = new_identity()
    assert parse_identity(identity.text) == identity
    assert repr(identity) == f"RelayIdentity({identity.fingerprint})"
    assert new_identity().fingerprint != identity.fingerprint
    # tests/tor compares it with what tor makes of the keys
    assert len(identity.fingerprint) == 40


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()])
def test_another_key(key: rsa.RSAPrivateKey) -> None:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(BcmError, match="^The RSA key of the relay is not a key of 1024 bits in PEM: restore a copy"):
        parse_identity(f"{new_identity().master.text}\n{pem}")
