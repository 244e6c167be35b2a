# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What modules and commands return of an authority."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from . import pki
from .authority_files import AuthorityFiles
from .certificate_request import CertificateRequest
from .database import Certificate, Database, Issuer

try:
    from cryptography import x509
except ImportError:  # the sanity tests import this file without the library
    pass


def authority_report(database: Database, now: datetime) -> dict[str, Any]:
    """All that is public."""

    def row(certificate: Certificate) -> dict[str, Any]:
        known = database.serials.get(certificate.serial)
        return {
            "subject": certificate.common_name,
            "serial": f"{certificate.serial:x}",
            "fingerprint": pki.fingerprint(certificate.content),
            "not_before": certificate.begin.isoformat(),
            "not_after": certificate.end.isoformat(),
            "days_left": (certificate.end - now) // timedelta(days=1),
            "revoked": bool(known and known.revoked),
        }

    trusted = database.trusted_roots(now)
    issuers: list[Issuer] = [*trusted, *(item for item in database.intermediates if item.certificate.end > now)]
    lists = [issuer.crl for issuer in issuers if issuer.crl is not None]
    return {
        "domain": database.domain,
        "provider": database.provider,
        "roots": [
            {
                **row(root.certificate),
                "generation": root.index,
                "uri": database.identity(root).uri,
                "path": database.identity(root).path,
                "key": root.key,
                "trusted": root in trusted,
                "certificate": root.certificate.pem,
            }
            for root in database.roots
        ],
        "intermediates": [
            {
                **row(item.certificate),
                "generation": item.root,
                "permitted": str(item.certificate.scope),
                "certificate": item.certificate.pem,
            }
            for item in database.intermediates
        ],
        "certificates": [
            {
                "name": name,
                **row(leaf.certificate),
                "names": list(leaf.certificate.names),
                "usage": list(leaf.certificate.usage),
            }
            for name, leaf in database.leaves.items()
        ],
        "trust": "".join(root.certificate.pem for root in trusted),
        "crl": "".join(map(pki.to_pem, lists)),
        "lists_end": min((found.next_update_utc.isoformat() for found in lists if found.next_update_utc), default=""),
    }


def certificate_report(
    request: CertificateRequest, database: Database, now: datetime, keys: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The certificate of a request; its name alone if there is none yet, as in check mode.

    ``keys`` are the private keys, if its key is to be returned.
    """
    leaf = database.leaves.get(request.name)
    if leaf is None:
        return {"name": request.name}
    certificate = leaf.certificate
    result: dict[str, Any] = {
        "name": request.name,
        "certificate": certificate.pem,
        "chain": "".join(item.pem for item in database.chain_of(leaf, now)),
        "serial": f"{certificate.serial:x}",
        "fingerprint": pki.fingerprint(certificate.content),
        "not_after": certificate.end.isoformat(),
    }
    if keys is not None and not request.csr:
        result["key"] = keys.get(certificate.key)
        if request.pkcs12:
            result |= {"pkcs12": keys.get(leaf.pkcs12_key), "password": keys.get(leaf.pkcs12_password_key)}
    return result


def read_private_key(files: AuthorityFiles, name: str) -> str | None:
    """The private key of a certificate, as PEM; None if there is none. Raises BcmError."""
    entry = ((files.read() or {}).get("certificates") or {}).get(name)
    if entry is None:
        return None
    certificate = x509.load_pem_x509_certificate(entry["certificate"].encode())
    return files.keys().get(pki.key_id(certificate.public_key()))
