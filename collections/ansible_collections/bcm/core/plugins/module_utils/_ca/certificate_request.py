# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests for certificates: what a certificate has to be, as a person or a plan says it."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

from .._base.errors import BcmError
from . import pki
from .database import Database

_COMMON_NAME_LENGTH = 64  # RFC 5280, ub-common-name


@dataclass(frozen=True)
class CertificateRequest:
    """A certificate that has to exist. ``names`` are normalized, ``csr`` is PEM if the key is elsewhere.

    ``common_name`` None: the one of `common_name_in`. ``renew``: issue it although it is good. ``keep_key``: certify
    the key of the certificate there is. ``by_root``: the root signs it, whatever signs others.
    """

    name: str
    common_name: str | None
    names: tuple[str, ...]
    usage: tuple[str, ...]
    csr: str | None = None
    pkcs12: bool = False
    renew: bool = False
    keep_key: bool = False
    by_root: bool = False

    def common_name_in(self, domain: str) -> str:
        """The common name of its certificate in a data center of this domain.

        A server that has addresses only gets one in the domain: GnuTLS takes it for a host name, so name constraints
        count for it.
        """
        if self.common_name:
            return self.common_name
        found = pki.normalize_name(f"{self.name}.{domain}")
        return found if found and len(found) <= _COMMON_NAME_LENGTH else domain

    def constrained_names(self, common_name: str) -> list[str]:
        """All that clients take for a name of it: GnuTLS any common name of a server without a host name, OpenSSL
        one that looks like a host name.
        """
        host = pki.normalize_name(common_name)
        if _has_addresses_only(self.names, self.usage):
            return [*self.names, host or common_name]
        is_host = host is not None and "." in host and all(map(pki.parse_address, self.names))
        return [*self.names, *([host] if host and is_host else [])]


#: Requests for certificates in a database whose private keys are these.
RequestSource = Callable[[Database, Container[str]], Sequence[CertificateRequest]]


def new_request(
    name: str,
    names: Sequence[str],
    usage: Sequence[str],
    *,
    common_name: str | None = None,
    csr: str | None = None,
    pkcs12: bool = False,
) -> CertificateRequest:
    """A request as a person writes it. Raises BcmError for what no certificate can have."""
    found = []
    for text in names:
        normal = pki.normalize_name(text)
        if normal is None:
            raise BcmError(
                f'"{text}" of certificate {name}',
                "is neither a host name nor an address",
                "correct it",
                code="invalid_value",
            )
        found.append(normal)
    if not found and "server" in usage:
        raise BcmError(
            f"Certificate {name}",
            "is for a server, but has no names",
            "say by which ones clients call it",
            code="invalid_value",
        )
    if csr and pkcs12:
        raise BcmError(
            f"Certificate {name}",
            "cannot be had as PKCS#12, since its key is where its CSR comes from",
            "leave out one",
            code="invalid_value",
        )
    hosts = (text for text in found if len(text) <= _COMMON_NAME_LENGTH and not pki.parse_address(text))
    common = common_name or (None if _has_addresses_only(found, usage) else next(hosts, name))
    if common is not None and not 0 < len(common) <= _COMMON_NAME_LENGTH:
        raise BcmError(
            f"Certificate {name}", f'cannot be called "{common}"', "64 characters are the most", code="invalid_value"
        )
    ordered = tuple(kind for kind in pki.USAGES if kind in usage)
    return CertificateRequest(name, common, tuple(dict.fromkeys(found)), ordered, csr, pkcs12)


def renewal_request(name: str, database: Database, keys: Container[str]) -> CertificateRequest:
    """A request for a certificate like the one there is. ``keys`` are those of the vault; any other key is kept."""
    leaf = database.leaves[name]
    certificate = leaf.certificate
    common: str | None = certificate.common_name
    has_addresses_only = _has_addresses_only(certificate.names, certificate.usage)
    if has_addresses_only and not f".{common}".endswith(f".{database.domain}"):  # issued before it had to be
        common = None
    return CertificateRequest(
        name,
        common,
        certificate.names,
        certificate.usage,
        pkcs12=leaf.pkcs12_key in keys,
        keep_key=certificate.key not in keys,
        by_root=leaf.issuer in {root.key for root in database.roots},  # some need that, such as LXD
    )


def _has_addresses_only(names: Iterable[str], usage: Container[str]) -> bool:
    """Whether it is for a server without a host name."""
    return "server" in usage and all(map(pki.parse_address, names))
