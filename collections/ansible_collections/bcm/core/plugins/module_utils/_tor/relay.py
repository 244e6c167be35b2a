# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity of a relay: the two keys that the directory authorities know it by (tor-spec, section 2.1; dir-spec)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .._base.errors import BcmError
from .onion_keys import OnionKey, new_key, parse_key

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_pem_private_key,
    )
except ImportError:  # the sanity tests import this file without the libraries
    pass

_WHAT = "the relay"


@dataclass(frozen=True)
class RelayIdentity:
    """Both keys: authorities refuse a relay that comes back with one of them only."""

    master: OnionKey
    rsa: str

    @property
    def master_file(self) -> bytes:
        """As of ed25519_master_id_secret_key, which has the form of an onion service's key."""
        return self.master.secret_file

    @property
    def fingerprint(self) -> str:
        """Under which the network lists it: SHA-1 of the RSA key (tor-spec, section 0.3), in upper-case hex digits."""
        public = load_pem_private_key(self.rsa.encode(), None).public_key()
        return hashlib.sha1(public.public_bytes(Encoding.DER, PublicFormat.PKCS1)).hexdigest().upper()

    @property
    def text(self) -> str:
        """As `parse_identity` reads it: a line with the Ed25519 key, and secret_id_key in PEM."""
        return f"{self.master.text}\n{self.rsa}"

    def __repr__(self) -> str:
        return f"RelayIdentity({self.fingerprint})"


def new_identity() -> RelayIdentity:
    """New random keys. 1024 bits are what the protocol has; what it relies on is the Ed25519 key."""
    private = rsa.generate_private_key(65537, 1024)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return RelayIdentity(new_key(), pem.decode())


def parse_identity(text: str) -> RelayIdentity:
    """Raises BcmError if the keys are malformed."""
    master, _end, pem = text.partition("\n")
    try:
        private = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    if not isinstance(private, rsa.RSAPrivateKey) or private.key_size != 1024:
        raise BcmError(
            f"The RSA key of {_WHAT}", "is not a key of 1024 bits in PEM", "restore a copy of it", code="damaged"
        )
    return RelayIdentity(parse_key(master, _WHAT), pem)
