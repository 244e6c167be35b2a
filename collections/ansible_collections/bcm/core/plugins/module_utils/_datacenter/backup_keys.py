# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of the stack that copies backups: one that decrypts the copies, as age has it, and one that logs in with SSH.

Both are derived from secrets of 256 bits. Format: https://age-encryption.org/v1 (C2SP), with X25519 alone.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Sequence

from .._base.errors import BcmError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
except ImportError:  # the sanity tests import this file without the library
    pass

_VERSION = b"age-encryption.org/v1\n"
_MAC = re.compile(rb"^--- ([A-Za-z0-9+/]{43})\n", re.MULTILINE)
_STANZA = re.compile(rb"-> X25519 ([A-Za-z0-9+/]{43})\n([A-Za-z0-9+/]{43})\n")
_CHUNK = 2**16
_TAG = 16
_LETTERS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def _raw(secret: str) -> bytes:
    """The bits of a secret. Raises BcmError if it is another one."""
    try:
        raw = base64.urlsafe_b64decode(f"{secret}=")
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise BcmError("A key of the stack backups", "is not 256 bits", "restore a copy of the secrets", code="damaged")
    return raw


def ssh_private_key(secret: str) -> str:
    """The key that logs in to SSH servers, in PEM."""
    key = Ed25519PrivateKey.from_private_bytes(_raw(secret))
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def ssh_public_key(secret: str) -> str:
    """Its public half, as in authorized_keys."""
    key = Ed25519PrivateKey.from_private_bytes(_raw(secret)).public_key()
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def recipient(secret: str) -> str:
    """To whom copies are encrypted, as ``age --recipient`` takes it."""
    return _bech32("age", _public(X25519PrivateKey.from_private_bytes(_raw(secret)).public_key()))


def identity(secret: str) -> str:
    """The key that decrypts them, as ``age --identity`` takes it."""
    return _bech32("age-secret-key-", _raw(secret)).upper()


def decrypt(secret: str, sealed: bytes) -> bytes:
    """Decrypt what was encrypted to that recipient. Raises BcmError."""
    private = X25519PrivateKey.from_private_bytes(_raw(secret))
    mac = _MAC.search(sealed)
    if not sealed.startswith(_VERSION) or mac is None:
        raise _damaged("is not a file of age")
    header, payload = sealed[: mac.start() + 3], sealed[mac.end() :]
    key = _file_key(private, header)
    if mac[1] != _encoded(hmac.digest(_derived(key, b"", b"header"), header, "sha256")):
        raise _damaged("has a header that was changed")
    return _opened(key, payload)


def _file_key(private: X25519PrivateKey, header: bytes) -> bytes:
    """The key of the file, from the part of the header that is for us."""
    for share, body in _STANZA.findall(header):
        try:
            ephemeral = _decoded(share)
            shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
            salt = ephemeral + _public(private.public_key())
            wrapping = _derived(shared, salt, b"age-encryption.org/v1/X25519")
            key = ChaCha20Poly1305(wrapping).decrypt(bytes(12), _decoded(body), None)
        except (InvalidTag, ValueError):
            continue
        if len(key) == 16:
            return key
    raise BcmError(
        "The copy",
        "is not encrypted to this data center",
        "use one that it made, or put the secrets back that it had then",
        code="wrong_key",
    )


def _opened(key: bytes, payload: bytes) -> bytes:
    """The content, whose pieces are numbered, the last one with a mark."""
    cipher = ChaCha20Poly1305(_derived(key, payload[:16], b"payload"))
    rest = payload[16:]
    content = b""
    for number in range(len(rest) // (_CHUNK + _TAG) + 1):
        piece, rest = rest[: _CHUNK + _TAG], rest[_CHUNK + _TAG :]
        try:
            content += cipher.decrypt(number.to_bytes(11, "big") + bytes([not rest]), piece, None)
        except (InvalidTag, ValueError) as error:
            raise _damaged("is damaged, or not whole") from error
        if not rest:
            break
    return content


def _damaged(fault: str) -> BcmError:
    return BcmError("The copy", fault, "use another one", code="damaged")


def _derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose).derive(key)


def _public(key: X25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _encoded(raw: bytes) -> bytes:
    return base64.b64encode(raw).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    """The bytes of Base64 without padding. Raises ValueError if they are written in another way than the one."""
    raw = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    if _encoded(raw) != text:
        raise ValueError("it is not canonical")
    return raw


def _bech32(prefix: str, raw: bytes) -> str:
    """BIP 173."""
    bits = int.from_bytes(raw, "big") << (-len(raw) * 8 % 5)
    count = -(-len(raw) * 8 // 5)
    values = [bits >> 5 * place & 31 for place in reversed(range(count))]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    checksum = _polymod([*expanded, *values, *[0] * 6]) ^ 1
    values += [checksum >> 5 * place & 31 for place in reversed(range(6))]
    return f"{prefix}1{''.join(_LETTERS[value] for value in values)}"


def _polymod(values: Sequence[int]) -> int:
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> place & 1 else 0
    return check
