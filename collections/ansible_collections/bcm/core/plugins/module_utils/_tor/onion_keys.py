# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of version 3 onion services and of their clients, as tor keeps them (rend-spec-v3, sections 1.9, 6 and G).

What tor keeps is an expanded Ed25519 key, a scalar and the prefix of nonces, from which there is no way back to a
seed. `cryptography` takes seeds only, so the public half of such a key is libsodium's work.
"""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass

from .._base.errors import BcmError

try:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp
except ImportError:  # the sanity tests import this file without the libraries
    pass

_SECRET_HEADER = b"== ed25519v1-secret: type0 ==\0\0\0"
_PUBLIC_HEADER = b"== ed25519v1-public: type0 ==\0\0\0"
_CONTROL = "ED25519-V3:"
_VERSION = b"\x03"


@dataclass(frozen=True)
class OnionKey:
    """The key of an onion service: 64 bytes of an expanded secret key, 32 of the public one."""

    secret: bytes
    public: bytes

    @property
    def address(self) -> str:
        return address_of(self.public)

    @property
    def secret_file(self) -> bytes:
        """As of hs_ed25519_secret_key."""
        return _SECRET_HEADER + self.secret

    @property
    def public_file(self) -> bytes:
        """As of hs_ed25519_public_key."""
        return _PUBLIC_HEADER + self.public

    @property
    def text(self) -> str:
        """As tor's control port has it (control-spec, section 3.27)."""
        return _CONTROL + base64.b64encode(self.secret).decode()

    def __repr__(self) -> str:
        return f"OnionKey({self.address})"


def new_key(seed: bytes | None = None) -> OnionKey:
    """A new random key, or that of a seed of 32 bytes."""
    seed = os.urandom(32) if seed is None else seed
    private = Ed25519PrivateKey.from_private_bytes(seed)
    expanded = bytearray(hashlib.sha512(seed).digest())
    expanded[0] &= 248
    expanded[31] = expanded[31] & 63 | 64
    return OnionKey(bytes(expanded), private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def parse_key(text: str, what: str) -> OnionKey:
    """A key as of the control port, or a file hs_ed25519_secret_key in Base64. Raises BcmError that names ``what``."""
    encoded = text.strip()
    remedy = f"give hs_ed25519_secret_key of tor in Base64, or {_CONTROL}…"
    try:
        raw = base64.b64decode("".join(encoded.removeprefix(_CONTROL).split()), validate=True)
    except ValueError:
        raise BcmError(f"The key of {what}", "is not Base64", remedy, code="invalid_value") from None
    return _secret(raw if encoded.startswith(_CONTROL) else _content(raw, _SECRET_HEADER, what, remedy), what, remedy)


def check_files(what: str, secret: bytes, public: bytes, hostname: str) -> OnionKey:
    """The key that three files of a HiddenServiceDir agree on. Raises BcmError."""
    remedy = "put the files of one service there, or remove them"
    key = _secret(_content(secret, _SECRET_HEADER, what, remedy), what, remedy)
    if _content(public, _PUBLIC_HEADER, what, remedy) != key.public:
        raise BcmError(f"The public and the secret key of {what}", "do not belong together", remedy, code="damaged")
    check_address(key, hostname.strip(), what)
    return key


def check_address(key: OnionKey, address: str, what: str) -> None:
    """Raises BcmError if an address is invalid, or is not that of the key."""
    public_of(address, what)
    if _bare(address) != _bare(key.address):
        raise BcmError(
            f"The key of {what}",
            f"is that of {key.address}, not of {address}",
            "give the key of that address, or no address",
            code="invalid_value",
        )


def address_of(public: bytes) -> str:
    """The address of a public key (rend-spec-v3, section 6)."""
    return base64.b32encode(public + _checksum(public) + _VERSION).decode().lower() + ".onion"


def public_of(address: str, what: str) -> bytes:
    """The public key in an address. Raises BcmError for an invalid one."""
    fault = "it is not 56 letters and digits of Base32 and .onion"
    bare = _bare(address)
    if len(bare) == 56:
        try:
            raw = base64.b32decode(bare.upper())
        except ValueError:
            raw = b""
        fault = "its version is not 3" if raw[34:] != _VERSION else "its checksum is wrong"
        if raw and raw[32:] == _checksum(raw[:32]) + _VERSION:
            return raw[:32]
    raise BcmError(
        f'"{address}"', f"is not an onion address of {what}: {fault};", "copy it once more", code="invalid_value"
    )


@dataclass(frozen=True)
class ClientKey:
    """The x25519 key of a client of an onion service (rend-spec-v3, section G.1)."""

    secret: bytes

    @property
    def public(self) -> bytes:
        return (
            X25519PrivateKey.from_private_bytes(self.secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        )

    @property
    def text(self) -> str:
        """The secret, in Base32."""
        return _base32(self.secret)

    @property
    def control_text(self) -> str:
        """The secret, as tor's control port has it (control-spec, section 3.30)."""
        return f"x25519:{base64.b64encode(self.secret).decode()}"

    @property
    def service_line(self) -> str:
        """The content of authorized_clients/NAME.auth."""
        return f"descriptor:x25519:{_base32(self.public)}\n"

    def client_line(self, address: str) -> str:
        """The content of a file .auth_private in the client's ClientOnionAuthDir."""
        return f"{_bare(address)}:descriptor:x25519:{self.text}\n"

    def __repr__(self) -> str:
        return "ClientKey(…)"


def new_client(secret: bytes | None = None) -> ClientKey:
    """A new random key, or that of 32 bytes."""
    return ClientKey(os.urandom(32) if secret is None else secret)


def parse_client(text: str, what: str) -> ClientKey:
    """A client's secret in Base32. Raises BcmError."""
    padded = text.strip().upper()
    try:
        raw = base64.b32decode(padded + "=" * (-len(padded) % 8))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise BcmError(
            f"The key of {what}",
            "is not an x25519 key in Base32",
            "revoke the client, and make another",
            code="invalid_value",
        )
    return ClientKey(raw)


def _content(raw: bytes, header: bytes, what: str, remedy: str) -> bytes:
    if not raw.startswith(header):
        other = "a public key" if raw.startswith(_PUBLIC_HEADER) else "no such file of tor's, version 3"
        raise BcmError(f"The key of {what}", f"is malformed, it is {other}", remedy, code="invalid_value")
    return raw[len(header) :]


def _secret(raw: bytes, what: str, remedy: str) -> OnionKey:
    if len(raw) != 64:
        raise BcmError(
            f"The key of {what}", f"is malformed, it has {len(raw)} bytes instead of 64", remedy, code="invalid_value"
        )
    scalar = int.from_bytes(raw[:32], "little")
    if scalar % 8 or scalar >> 254 != 1:
        raise BcmError(
            f"The key of {what}",
            "is foreign, no Ed25519 key that was expanded as tor does",
            remedy,
            code="invalid_value",
        )
    return OnionKey(raw, crypto_scalarmult_ed25519_base_noclamp(raw[:32]))


def _bare(address: str) -> str:
    return address.lower().removesuffix(".onion")


def _checksum(public: bytes) -> bytes:
    return hashlib.sha3_256(b".onion checksum" + public + _VERSION).digest()[:2]


def _base32(raw: bytes) -> str:
    return base64.b32encode(raw).decode().rstrip("=")
