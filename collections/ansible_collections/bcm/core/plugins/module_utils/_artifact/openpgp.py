# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""OpenPGP signatures over a file: which ones count. Sequoia checks them, without key ring or trust database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from .._base.errors import BcmError

try:
    import pysequoia
    from pysequoia.packet import HashAlgorithm, Packet, PacketPile, SignatureType, Tag
except ImportError:  # the sanity tests import this file without the libraries
    pysequoia = None  # type: ignore[assignment]

_BEGIN = b"-----BEGIN PGP SIGNATURE-----"
_MOST = 100  # signatures of a release; each costs a look at all that was signed


class SignatureError(BcmError):
    """Signatures cannot be checked at all."""

    code = "not_verified"


@dataclass(frozen=True)
class Verdict:
    """The signers whose signatures count; the others, with reasons; and how many are needed."""

    counted: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    needed: int

    @property
    def enough(self) -> bool:
        return len(self.counted) >= self.needed

    def explain(self) -> str:
        """One line for a person."""
        parts = [f"signed by {', '.join(self.counted) or 'none of the pinned keys'}"]
        parts += [f"{who}: {why}" for who, why in self.refused]
        return "; ".join([*parts, f"{len(self.counted)} of {self.needed} needed"])


def split(blob: bytes) -> list[bytes]:
    """Every signature packet of a file, armored (one block or several) or not; an unreadable block comes as it is.

    Raises SignatureError if there are more than a release can have.
    """
    blocks = [_BEGIN + block for block in blob.split(_BEGIN, _MOST + 1)[1:]] or [blob]
    found = []
    for block in blocks[: _MOST + 1]:
        try:
            packets = [bytes(packet) for packet in PacketPile.from_bytes(block) if packet.tag == Tag.Signature]
        except RuntimeError:
            packets = []
        found += packets or [block]
    if len(found) > _MOST:
        raise SignatureError(
            f"There are more than {_MOST} signatures in one file",
            remedy="refused, it was not made to be read",
        )
    return found


def verify(
    data: bytes | Path,
    blobs: Iterable[bytes],
    signers: Mapping[str, str],
    find: Callable[[str], bytes | None],
    threshold: int,
) -> Verdict:
    """Which signers (name -> primary fingerprint) signed ``data``; ``find`` gets their keys. Raises SignatureError."""
    if pysequoia is None:
        raise SignatureError(
            "Signatures", "cannot be checked", "install the Python package pysequoia", code="missing_program"
        )
    if isinstance(data, Path) and not data.is_file():
        raise SignatureError(f"Signatures of {data}", "cannot be checked: there is no such file", code="not_found")
    keys = {name: _Key(name, fingerprint.upper(), find) for name, fingerprint in signers.items()}
    counted: list[str] = []
    refused: list[tuple[str, str]] = []
    unknown = False
    for raw in (packet for blob in blobs for packet in split(blob)):
        try:
            signature = pysequoia.Sig.from_bytes(raw)
        except RuntimeError:
            refused.append(("a signature", "unreadable"))
            continue
        issuers = {issuer.upper() for issuer in (signature.issuer_fingerprint, signature.issuer_key_id) if issuer}
        # Whose primary key it says first, for it may cost a download to learn what subkeys the others have.
        asked = sorted(keys.values(), key=lambda key: not issuers & key.primary)
        key = next((key for key in asked if issuers & (key.primary | key.subkeys.keys())), None)
        if key is None:
            unknown = True
            refused.append((max(issuers, key=len, default="a signature"), "unknown key"))
        elif key.name not in counted:
            fault = key.fault(data, signature, issuers)
            if fault is None:
                counted.append(key.name)
            else:
                refused.append((key.name, fault))
    if unknown:
        refused += [(key.name, "no key found") for key in keys.values() if key.cert is None]
    return Verdict(tuple(counted), tuple(dict.fromkeys(refused)), threshold)


def reason(error: RuntimeError) -> str:
    """Return Sequoia's message on one line, without the backtrace that some environments add."""
    words = " ".join(str(error).partition("Stack backtrace")[0].split())
    return words.replace(": Caused by:", ":").replace(" Caused by:", ":")


def subkeys(cert: pysequoia.Cert) -> dict[str, list[Packet]]:
    """Fingerprint and key id of each subkey -> it, and the signatures on it."""
    found: dict[str, list[Packet]] = {}
    group: list[Packet] = []
    for packet in PacketPile.from_bytes(bytes(cert)):
        if packet.tag == Tag.Signature:
            group.append(packet)
        else:
            group = [packet]
        if packet.tag == Tag.PublicSubkey:
            found[packet.fingerprint.upper()] = found[packet.key_id.upper()] = group
    return found


def subkey_expires(subkey: list[Packet]) -> datetime | None:
    """When a subkey expires by the newest signature that binds it."""
    bindings = {
        packet.signature_created: packet.key_validity_period
        for packet in subkey
        if packet.signature_created and packet.signature_type == SignatureType.SubkeyBinding
    }
    created, lasts = subkey[0].key_created, bindings[max(bindings)] if bindings else None
    return created + lasts if created and lasts else None


class _Key:
    """A signer's certificate, looked for when it is first needed."""

    def __init__(self, name: str, fingerprint: str, find: Callable[[str], bytes | None]) -> None:
        self.name = name
        self._fingerprint = fingerprint
        self._find = find
        # what signatures call it: version 4's key id is the end of the fingerprint, version 6's its beginning
        self.primary = {fingerprint, fingerprint[-16:] if len(fingerprint) == 40 else fingerprint[:16]}

    @cached_property
    def cert(self) -> pysequoia.Cert | None:
        try:
            cert = pysequoia.Cert.from_bytes(self._find(self._fingerprint) or b"")
        except RuntimeError:
            return None
        return cert if cert.fingerprint.upper() == self._fingerprint else None

    @cached_property
    def subkeys(self) -> dict[str, list[Packet]]:
        return subkeys(self.cert) if self.cert else {}

    def fault(self, data: bytes | Path, signature: pysequoia.Sig, issuers: set[str]) -> str | None:
        """Why a signature does not count; None if it does."""
        if self.cert is None:
            return "no key found"
        if self.cert.is_revoked:
            return "revoked key"
        try:
            expires = self.cert.expiration
        except RuntimeError as error:
            why = reason(error)
            return f"{'weak' if 'not considered secure' in why else 'unusable'} key ({why})"
        now = datetime.now(UTC)
        if expires and expires <= now:
            return f"key expired on {expires:%Y-%m-%d}"
        signed_by = self._signed_by(data, signature)
        fault = self._fault_of_subkey({signed_by} if signed_by else issuers, now)
        if fault or signed_by:
            return fault
        if signature.hash_algorithm in (HashAlgorithm.MD5, HashAlgorithm.SHA1, HashAlgorithm.RipeMD):
            return f"weak signature ({str(signature.hash_algorithm).rpartition('.')[2]})"
        if signature.created and signature.created > now:
            return f"signature from the future ({signature.created:%Y-%m-%d})"
        if signature.expiration and signature.expiration <= now:
            return f"signature expired on {signature.expiration:%Y-%m-%d}"
        return "bad signature: over other data, or by a key that was weak or not valid when it was made"

    def _signed_by(self, data: bytes | Path, signature: pysequoia.Sig) -> str | None:
        """Fingerprint of the key or subkey that signed; None if Sequoia finds anything wrong."""
        over = {"file": data} if isinstance(data, Path) else {"bytes": data}
        try:
            good = pysequoia.verify(store=lambda _: [self.cert], signature=signature, **over)
        except RuntimeError:
            return None
        return str(good.valid_sigs[0].signing_key).upper()

    def _fault_of_subkey(self, handles: set[str], now: datetime) -> str | None:
        """What is wrong with a subkey now. Sequoia asked what it was worth when it signed, and that is not enough.

        The signatures on it are not checked again: a forged one can only make it worse, or as it was when it signed.
        """
        for handle in handles & self.subkeys.keys():
            subkey, *signatures = self.subkeys[handle]
            if any(signature.signature_type == SignatureType.SubkeyRevocation for signature in signatures):
                return "revoked subkey"
            expires = subkey_expires([subkey, *signatures])
            if expires and expires <= now:
                return f"subkey expired on {expires:%Y-%m-%d}"
        return None
