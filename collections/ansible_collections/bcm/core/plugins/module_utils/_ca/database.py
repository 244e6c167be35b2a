# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database of an authority: all that it has issued, checked when it is read, and what of it is still good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from .._base.errors import BcmError
from . import pki
from .signer import Identity

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
except ImportError:  # the sanity tests import this file without the library
    pass

# how long the database has a certificate after its end
_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """A certificate; one that is only planned has a key and a time, but no content yet.

    ``key`` identifies its public key, as `pki.key_id` does.
    """

    key: str
    begin: datetime
    end: datetime
    serial: int = 0
    _content: x509.Certificate | None = None

    @classmethod
    def of(cls, content: x509.Certificate) -> Certificate:
        begin, end = content.not_valid_before_utc, content.not_valid_after_utc
        return cls(pki.key_id(content.public_key()), begin, end, content.serial_number, content)

    @property
    def content(self) -> x509.Certificate:
        if self._content is None:
            raise ValueError("a certificate that is only planned has no content")
        return self._content

    @property
    def pem(self) -> str:
        return pki.to_pem(self.content)

    @property
    def common_name(self) -> str:
        return pki.common_name(self.content)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(pki.names_of(self.content))

    @property
    def usage(self) -> tuple[str, ...]:
        return tuple(pki.usage_of(self.content))

    @property
    def scope(self) -> pki.Scope:
        """What an intermediate may certify."""
        return pki.scope_of(self.content)

    def is_due(self, now: datetime) -> bool:
        """Whether a third of its time or less is left."""
        return self.end - now <= (self.end - self.begin) / 3


@dataclass
class Root:
    """One generation; ``cross`` is the same root, signed by the one before.

    ``distrusted``: its key is compromised, or has signed something that it should not have.
    """

    index: int
    certificate: Certificate
    cross: Certificate | None = None
    crl: x509.CertificateRevocationList | None = None
    distrusted: bool = False

    @property
    def key(self) -> str:
        return self.certificate.key


@dataclass
class Intermediate:
    """One intermediate below the root of generation ``root``."""

    root: int
    certificate: Certificate
    crl: x509.CertificateRevocationList | None = None

    @property
    def key(self) -> str:
        return self.certificate.key


@dataclass
class Leaf:
    """The newest certificate of a name; ``issuer`` is the identifier of its issuer's key."""

    certificate: Certificate
    issuer: str

    @property
    def pkcs12_key(self) -> str:
        """Where its PKCS#12 is among the private keys."""
        return f"pkcs12 {pki.fingerprint(self.certificate.content)}"

    @property
    def pkcs12_password_key(self) -> str:
        return f"{self.pkcs12_key} password"


#: what signs certificates and lists
Issuer: TypeAlias = "Root | Intermediate"


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
    """All that an authority has issued, and may have to revoke."""

    domain: str
    provider: str
    roots: list[Root] = field(default_factory=list)
    intermediates: list[Intermediate] = field(default_factory=list)
    leaves: dict[str, Leaf] = field(default_factory=dict)
    serials: dict[int, Serial] = field(default_factory=dict)

    def copy(self) -> Database:
        """A copy that can be changed without changing this one."""
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

    def is_good(self, certificate: Certificate, now: datetime) -> bool:
        """Neither expired nor revoked."""
        known = self.serials.get(certificate.serial)
        return certificate.end > now and not (known and known.revoked)

    def trusted_roots(self, now: datetime) -> list[Root]:
        """The roots to trust, the current one first: it, and those that issued something that has not expired."""
        found = [self.root] if self.root else []
        for below, root in reversed(list(zip(self.roots[1:], self.roots[:-1], strict=True))):
            issued = [item.certificate for item in self.intermediates if item.root == root.index]
            issued += [leaf.certificate for leaf in self.leaves.values() if leaf.issuer == root.key]
            issued += [below.cross] if below.cross else []
            if root.certificate.end > now and not root.distrusted and any(item.end > now for item in issued):
                found.append(root)
        return found

    def good_intermediates(self, now: datetime) -> list[Intermediate]:
        """Good intermediates of the current generation, the newest first."""
        current = self.root.index if self.root else None
        return [i for i in reversed(self.intermediates) if i.root == current and self.is_good(i.certificate, now)]

    def chain_of(self, leaf: Leaf, now: datetime) -> list[Certificate]:
        """A leaf and all that leads to each root that may be trusted, roots left out."""
        found = [leaf.certificate]
        key = leaf.issuer
        for item in self.intermediates:
            if item.key == key:
                found.append(item.certificate)
                key = next(root.key for root in self.roots if root.index == item.root)
        position = next(index for index, root in enumerate(self.roots) if root.key == key)
        for root in reversed(self.roots[: position + 1]):  # each may have been signed by the one before
            if root.cross is None or not self.is_good(root.cross, now):
                break
            found.append(root.cross)
        return found

    def revoked_by(self, issuer: str) -> dict[int, tuple[datetime, str]]:
        """What the list of an issuer has to hold: serials, when, and why."""
        return {
            number: (item.revoked, item.reason)
            for number, item in self.serials.items()
            if item.issuer == issuer and item.revoked
        }

    def is_list_due(self, issuer: Issuer, now: datetime) -> bool:
        """Whether the list of an issuer is missing, about to end, or lacks a serial."""
        crl = issuer.crl
        if crl is None or crl.next_update_utc is None:
            return True
        third = (crl.next_update_utc - crl.last_update_utc) / 3
        listed = {entry.serial_number for entry in crl}
        return crl.next_update_utc - now <= third or not listed >= set(self.revoked_by(issuer.key))

    # -- changes ------------------------------------------------------------------------------------------------------

    def add_serial(self, certificate: Certificate, name: str, issuer: str) -> None:
        self.serials[certificate.serial] = Serial(name, issuer, certificate.end)

    def revoke(self, serial: int, reason: str, now: datetime) -> None:
        """Revoke a certificate; if it is revoked already, change the reason alone."""
        known = self.serials[serial]
        known.revoked = known.revoked or now
        known.reason = reason

    def remove_expired(self, now: datetime) -> None:
        """Remove what is not needed any more."""
        self.serials = {number: item for number, item in self.serials.items() if self._needs_serial(number, item, now)}
        self.intermediates = [i for i in self.intermediates if i.certificate.end > now or self._has_issued(i)]
        self.leaves = {name: leaf for name, leaf in self.leaves.items() if leaf.certificate.end + _KEPT > now}

    def _needs_serial(self, number: int, item: Serial, now: datetime) -> bool:
        """Whether it may be revoked yet, or is still to be listed: RFC 5280, 3.3: by a list made after its end, too."""
        if item.end > now or not item.revoked:
            return item.end > now
        issuers: list[Issuer] = [*self.roots, *self.intermediates]
        issuer = next((one for one in issuers if one.key == item.issuer), None)
        if issuer is None or not self.is_good(issuer.certificate, now):
            return False  # it signs no lists any more
        crl = issuer.crl
        return not (crl and crl.last_update_utc > item.end and crl.get_revoked_certificate_by_serial_number(number))

    def _has_issued(self, intermediate: Intermediate) -> bool:
        return any(leaf.issuer == intermediate.key for leaf in self.leaves.values())

    # -- the file -----------------------------------------------------------------------------------------------------

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
                    "certificate": root.certificate.pem,
                    "cross": root.cross and root.cross.pem,
                    "crl": _crl_pem(root.crl),
                    "distrusted": root.distrusted,
                }
                for root in self.roots
            ],
            "intermediates": [
                {"root": item.root, "certificate": item.certificate.pem, "crl": _crl_pem(item.crl)}
                for item in self.intermediates
            ],
            "certificates": {
                name: {"certificate": leaf.certificate.pem, "issuer": leaf.issuer}
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


def parse_database(content: Mapping[str, Any], location: object) -> tuple[Database, datetime]:
    """The database in a public file, and when it was written. Raises BcmError if its parts do not fit together."""
    try:
        database = Database(content["domain"], content["provider"])
        for item in content["roots"]:
            cross = _parse(item["cross"]) if item["cross"] else None
            certificate, crl = _parse(item["certificate"]), _parse_crl(item["crl"])
            database.roots.append(Root(item["index"], certificate, cross, crl, item["distrusted"]))
        for item in content["intermediates"]:
            certificate, crl = _parse(item["certificate"]), _parse_crl(item["crl"])
            database.intermediates.append(Intermediate(item["root"], certificate, crl))
        for name, item in content["certificates"].items():
            database.leaves[name] = Leaf(_parse(item["certificate"]), item["issuer"])
        for number, item in content["serials"].items():
            revoked = None if item["revoked"] is None else _parse_time(item["revoked"])
            serial = Serial(item["name"], item["issuer"], _parse_time(item["end"]), revoked, item["reason"])
            database.serials[int(number, 16)] = serial
        _check(database)
        return database, _parse_time(content["written"])
    except (
        *(KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration),
        *(UnsupportedAlgorithm, x509.InvalidVersion, x509.ExtensionNotFound, x509.DuplicateExtension),
    ) as error:
        raise BcmError(
            location, "is damaged, its certificates do not fit together", "put a copy of it back", code="damaged"
        ) from error


def _check(database: Database) -> None:
    """Every certificate is signed by its issuer, and has what its kind needs. Raises what `parse_database` catches."""
    roots = {root.index: root for root in database.roots}
    every: list[Issuer] = [*database.roots, *database.intermediates]
    issuers = {issuer.key: issuer for issuer in every}
    signed: list[tuple[Certificate, Issuer]] = [(root.certificate, root) for root in database.roots]
    signed += [
        (below.cross, root) for root, below in zip(database.roots, database.roots[1:], strict=False) if below.cross
    ]
    signed += [(item.certificate, roots[item.root]) for item in database.intermediates]
    pairs = [*signed, *((leaf.certificate, issuers[leaf.issuer]) for leaf in database.leaves.values())]
    for certificate, issuer in pairs:
        if not pki.is_signed_by(certificate.content, issuer.certificate.content.public_key()):
            raise ValueError("a signature is wrong")
        pki.common_name(certificate.content)
    for item in database.intermediates:
        pki.scope_of(item.certificate.content)
    for leaf in database.leaves.values():
        pki.usage_of(leaf.certificate.content)
    for issuer in every:
        if issuer.crl is not None:
            pki.crl_number(issuer.crl)


def _parse_time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without its zone")
    return found


def _crl_pem(crl: x509.CertificateRevocationList | None) -> str | None:
    return None if crl is None else pki.to_pem(crl)  # an empty list is false


def _parse(text: str) -> Certificate:
    return Certificate.of(x509.load_pem_x509_certificate(text.encode()))


def _parse_crl(text: str | None) -> x509.CertificateRevocationList | None:
    return x509.load_pem_x509_crl(text.encode()) if text else None
