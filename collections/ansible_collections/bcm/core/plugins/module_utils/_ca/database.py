# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an authority has issued, as its public file has it: read with suspicion, and asked what is still good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from .._base.errors import BcmError
from . import pki
from .signer import Identity

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
except ImportError:  # the sanity tests import this file without the library
    pass

# an expired leaf stays in lists for so long
_REMEMBERED = timedelta(days=30)


@dataclass
class Root:
    """One generation; ``cross`` is the same root, signed by the one before.

    ``distrusted``: somebody else has its key, or had something signed with it.
    """

    index: int
    certificate: x509.Certificate
    cross: x509.Certificate | None = None
    crl: x509.CertificateRevocationList | None = None
    distrusted: bool = False

    @property
    def key(self) -> str:
        return pki.key_id(self.certificate.public_key())


@dataclass
class Intermediate:
    """One intermediate below the root of generation ``root``."""

    root: int
    certificate: x509.Certificate
    crl: x509.CertificateRevocationList | None = None

    @property
    def key(self) -> str:
        return pki.key_id(self.certificate.public_key())


@dataclass
class Leaf:
    """The newest certificate of a name; ``issuer`` is the identifier of its issuer's key."""

    certificate: x509.Certificate
    issuer: str


@dataclass
class Serial:
    """A certificate that may have to be revoked, or has been."""

    name: str
    issuer: str
    end: datetime
    revoked: datetime | None = None
    reason: str = "unspecified"


@dataclass
class Database:
    """All of it."""

    domain: str
    provider: str
    roots: list[Root] = field(default_factory=list)
    intermediates: list[Intermediate] = field(default_factory=list)
    leaves: dict[str, Leaf] = field(default_factory=dict)
    serials: dict[int, Serial] = field(default_factory=dict)

    def copy(self) -> Database:
        """One that changes without this one."""
        return replace(
            self,
            roots=[replace(root) for root in self.roots],
            intermediates=[replace(item) for item in self.intermediates],
            leaves=dict(self.leaves),
            serials={number: replace(item) for number, item in self.serials.items()},
        )

    # -- questions ----------------------------------------------------------------------------------------------------

    @property
    def root(self) -> Root | None:
        """The root of the current generation."""
        return self.roots[-1] if self.roots else None

    def identity(self, root: Root) -> Identity:
        return Identity(self.domain, root.index)

    def good(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Neither expired nor revoked."""
        known = self.serials.get(certificate.serial_number)
        return certificate.not_valid_after_utc > now and not (known and known.revoked)

    def trusted(self, now: datetime) -> list[Root]:
        """The roots that something good rests on, the current one first: those to trust, and to have lists of."""
        found = [self.root] if self.root else []
        for below, root in reversed(list(zip(self.roots[1:], self.roots[:-1], strict=True))):
            issued = [item.certificate for item in self.intermediates if item.root == root.index]
            issued += [leaf.certificate for leaf in self.leaves.values() if leaf.issuer == root.key]
            issued += [below.cross] if below.cross else []
            alive = root.certificate.not_valid_after_utc > now and not root.distrusted
            if alive and any(item.not_valid_after_utc > now for item in issued):
                found.append(root)
        return found

    def issuers(self, now: datetime) -> list[Intermediate]:
        """Good intermediates of the current generation, the newest first."""
        current = self.root.index if self.root else None
        return [i for i in reversed(self.intermediates) if i.root == current and self.good(i.certificate, now)]

    def chain(self, leaf: Leaf, now: datetime) -> list[x509.Certificate]:
        """A leaf and all that leads to each root that may be trusted, roots left out."""
        found = [leaf.certificate]
        key = leaf.issuer
        for item in self.intermediates:
            if item.key == key:
                found.append(item.certificate)
                key = next(root.key for root in self.roots if root.index == item.root)
        position = next(index for index, root in enumerate(self.roots) if root.key == key)
        for root in reversed(self.roots[: position + 1]):  # each may have been signed by the one before
            if root.cross is None or not self.good(root.cross, now):
                break
            found.append(root.cross)
        return found

    def revoked(self, issuer: str) -> dict[int, tuple[datetime, str]]:
        """What a list of an issuer has to hold: serials, when, and why."""
        return {
            number: (item.revoked, item.reason)
            for number, item in self.serials.items()
            if item.issuer == issuer and item.revoked
        }

    def register(self, certificate: x509.Certificate, name: str, issuer: str) -> None:
        self.serials[certificate.serial_number] = Serial(name, issuer, certificate.not_valid_after_utc)

    # -- the file -----------------------------------------------------------------------------------------------------

    def forget(self, now: datetime) -> None:
        """Leave out what has no use any more."""
        self.serials = {number: item for number, item in self.serials.items() if self._has_use(number, item, now)}
        self.intermediates = [i for i in self.intermediates if i.certificate.not_valid_after_utc > now or self._used(i)]
        self.leaves = {
            name: leaf for name, leaf in self.leaves.items() if leaf.certificate.not_valid_after_utc + _REMEMBERED > now
        }

    def _has_use(self, number: int, item: Serial, now: datetime) -> bool:
        """Whether a serial may have to be revoked yet, or listed: RFC 5280, 3.3 wants it in one made after its end."""
        if item.end > now or not item.revoked:
            return item.end > now
        issuers: list[Root | Intermediate] = [*self.roots, *self.intermediates]
        issuer = next((one for one in issuers if one.key == item.issuer), None)
        if issuer is None or not self.good(issuer.certificate, now):
            return False  # it signs no lists any more
        crl = issuer.crl
        return not (crl and crl.last_update_utc > item.end and crl.get_revoked_certificate_by_serial_number(number))

    def _used(self, intermediate: Intermediate) -> bool:
        return any(leaf.issuer == intermediate.key for leaf in self.leaves.values())

    def to_plain(self, now: datetime) -> dict[str, Any]:
        return {
            "domain": self.domain,
            "provider": self.provider,
            "written": now.isoformat(),
            "roots": [
                {
                    "index": root.index,
                    "uri": self.identity(root).uri,
                    "path": self.identity(root).path,
                    "key": root.key,
                    "certificate": pki.to_pem(root.certificate),
                    "cross": _text(root.cross),
                    "crl": _text(root.crl),
                    "distrusted": root.distrusted,
                }
                for root in self.roots
            ],
            "intermediates": [
                {"root": item.root, "certificate": pki.to_pem(item.certificate), "crl": _text(item.crl)}
                for item in self.intermediates
            ],
            "certificates": {
                name: {"certificate": pki.to_pem(leaf.certificate), "issuer": leaf.issuer}
                for name, leaf in sorted(self.leaves.items())
            },
            "serials": {
                f"{number:x}": {
                    "name": item.name,
                    "issuer": item.issuer,
                    "end": item.end.isoformat(),
                    "revoked": item.revoked and item.revoked.isoformat(),
                    "reason": item.reason,
                }
                for number, item in self.serials.items()
            },
        }


def from_plain(content: Mapping[str, Any], where: object) -> tuple[Database, datetime]:
    """The book, and when it was written. Raises BcmError for one that nobody wrote like that."""
    try:
        book = Database(content["domain"], content["provider"])
        for item in content["roots"]:
            certificate, cross, crl = _load(item["certificate"]), _maybe(item["cross"]), _crl(item["crl"])
            book.roots.append(Root(item["index"], certificate, cross, crl, item["distrusted"]))
        for item in content["intermediates"]:
            book.intermediates.append(Intermediate(item["root"], _load(item["certificate"]), _crl(item["crl"])))
        for name, item in content["certificates"].items():
            book.leaves[name] = Leaf(_load(item["certificate"]), item["issuer"])
        for number, item in content["serials"].items():
            revoked = None if item["revoked"] is None else _moment(item["revoked"])
            serial = Serial(item["name"], item["issuer"], _moment(item["end"]), revoked, item["reason"])
            book.serials[int(number, 16)] = serial
        _check(book)
        return book, _moment(content["written"])
    except (
        *(KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration),
        *(UnsupportedAlgorithm, x509.InvalidVersion, x509.ExtensionNotFound, x509.DuplicateExtension),
    ) as error:
        raise BcmError(f"{where} is damaged, its certificates do not fit together: put a copy of it back") from error


def _check(book: Database) -> None:
    """Every certificate is signed by whom it should be, and says what it has to. Raises what `from_plain` expects."""
    roots = {root.index: root for root in book.roots}
    keys = {root.key: root.certificate.public_key() for root in book.roots}
    pairs = [(root.certificate, root.certificate.public_key()) for root in book.roots]
    pairs += [
        (below.cross, root.certificate.public_key())
        for root, below in zip(book.roots, book.roots[1:], strict=False)
        if below.cross
    ]
    for item in book.intermediates:
        pairs.append((item.certificate, roots[item.root].certificate.public_key()))
        keys[item.key] = item.certificate.public_key()
    pairs += [(leaf.certificate, keys[leaf.issuer]) for leaf in book.leaves.values()]
    if not all(pki.is_signed_by(certificate, key) for certificate, key in pairs):
        raise ValueError("a signature is wrong")
    for certificate, _key in pairs:
        pki.common_name(certificate)
    for item in book.intermediates:
        pki.scope_of(item.certificate)
    for leaf in book.leaves.values():
        pki.usage_of(leaf.certificate)
    issuers: list[Root | Intermediate] = [*book.roots, *book.intermediates]
    for issuer in issuers:
        if issuer.crl is not None:
            pki.crl_number(issuer.crl)


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without its zone")
    return found


def _text(item: x509.Certificate | x509.CertificateRevocationList | None) -> str | None:
    return None if item is None else pki.to_pem(item)  # a list that is empty is false


def _load(text: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(text.encode())


def _maybe(text: str | None) -> x509.Certificate | None:
    return _load(text) if text else None


def _crl(text: str | None) -> x509.CertificateRevocationList | None:
    return x509.load_pem_x509_crl(text.encode()) if text else None
