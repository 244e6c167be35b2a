# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A root key in the vault, for chains whose coins are worth nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableMapping

from .._base.errors import BcmError
from . import pki
from .signer import Identity, RootKeys, Signer

try:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError:  # the sanity tests import this file without the library
    pass


class SoftwareSigner:
    """A signer that holds the key itself."""

    def __init__(self, identity: Identity, key: ec.EllipticCurvePrivateKey) -> None:
        self.identity = identity
        self._key = key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, tbs: bytes, shown: str) -> bytes:
        signature = self._key.sign(tbs, ec.ECDSA(hashes.SHA256()))
        self._key.public_key().verify(signature, tbs, ec.ECDSA(hashes.SHA256()))
        return signature


class SoftwareRootKeys:
    """RootKeys whose keys are in ``keys``, by the identifiers of their public keys. ``where`` these are kept."""

    def __init__(self, keys: MutableMapping[str, str], where: object) -> None:
        self._keys, self._where = keys, where

    def root(self, identity: Identity, pinned: ec.EllipticCurvePublicKey | None) -> Signer:
        if pinned is None:
            key = pki.new_key()
            self._keys[pki.key_id(key.public_key())] = pki.key_pem(key)
            return SoftwareSigner(identity, key)
        text = self._keys.get(pki.key_id(pinned))
        if text is None:
            raise BcmError(
                f"The key of root g{identity.index} of {identity.domain}",
                f"is not in {self._where}",
                "put the file back from a backup, or move the files of this authority away to begin another",
                code="data_at_risk",
            )
        return SoftwareSigner(identity, pki.load_key(text))


@contextlib.contextmanager
def open_keys(keys: MutableMapping[str, str], where: object, *, first: bool, confirmations: int) -> Iterator[RootKeys]:
    """As `OpenRootKeys` has it; no person is asked."""
    yield SoftwareRootKeys(keys, where)
