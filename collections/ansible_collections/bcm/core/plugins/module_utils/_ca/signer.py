# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Root keys, on a device or in a file: their identities, and the interface for signing with them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

_HARDENED = 0x80000000
_PURPOSE = 13


@dataclass(frozen=True)
class Identity:
    """The SLIP-0013 identity of a root key; ``index`` is its generation, from 1 up."""

    domain: str
    index: int

    @property
    def user(self) -> str:
        return "x509-root"

    @property
    def uri(self) -> str:
        return f"gpg://{self.user}@{self.domain}/pki"

    @property
    def numbers(self) -> list[int]:
        """The BIP32 path as SLIP-0013 derives it, hardened."""
        digest = hashlib.sha256(struct.pack("<I", self.index) + self.uri.encode()).digest()
        return [_PURPOSE | _HARDENED, *(number | _HARDENED for number in struct.unpack("<4I", digest[:16]))]

    @property
    def path(self) -> str:
        """The same, as people write it."""
        return "/".join(["m", *(f"{number & ~_HARDENED}'" for number in self.numbers)])


class Signer(Protocol):
    """One root key, on P-256. Both methods raise BcmError for what a person has to mend."""

    @property
    def identity(self) -> Identity: ...

    def public_key(self) -> ec.EllipticCurvePublicKey: ...

    def sign(self, tbs: bytes, shown: str) -> bytes:
        """The DER signature, ECDSA over the SHA-256 of ``tbs``, verified before it is returned.

        ``shown`` is what a person confirms: "root g1 3f9a11c2".
        """


class RootKeys(Protocol):
    """Root keys, for as long as the context lasts that returned them."""

    def root(self, identity: Identity, pinned: ec.EllipticCurvePublicKey | None) -> Signer:
        """The key of an identity; ``pinned`` is what it has to be, None for a new one that a person consented to."""


class OpenRootKeys(Protocol):
    """How to reach the root keys; called when the first signature is needed, and not before."""

    def __call__(
        self, keys: MutableMapping[str, str], where: object, *, first: bool, confirmations: int
    ) -> AbstractContextManager[RootKeys]:
        """``keys`` are the private keys of the authority, kept at ``where``.

        ``first``: no root is known yet, which would tell a mistyped passphrase. ``confirmations``: how many signatures
        there will be.
        """
