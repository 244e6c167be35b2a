# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables, fingerprints and QR codes of `bcm ca`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base import qr
from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.database import Certificate, Database, Root


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def certificate_rows(database: Database, now: datetime, everything: bool = False) -> list[dict[str, Any]]:
    """Return a row for each certificate in use; ``everything``: also for those that were replaced or revoked."""

    def row(name: str, certificate: Certificate, purpose: str) -> dict[str, Any]:
        known = database.serials.get(certificate.serial)
        # A root has no date of renewal, nor has the bridge to the next one.
        is_due = purpose not in ("root", "cross") and certificate.is_due(now)
        is_expired = certificate.end <= now
        state = "revoked" if known and known.revoked else "expired" if is_expired else "due" if is_due else "good"
        return {**_first_columns(name, f"{certificate.serial:x}", purpose, certificate.end, now), "state": state}

    found = []
    trusted = database.trusted_roots(now)
    for root in database.roots:
        of_root = [row(f"root g{root.index}", root.certificate, "root")] if everything or root in trusted else []
        if root.cross is not None and (everything or root.cross.end > now):
            of_root.append(row(f"cross g{root.index}", root.cross, "cross"))
        found += [{**item, "state": "distrusted"} if root.distrusted else item for item in of_root]
    found += [row(item.certificate.common_name, item.certificate, "intermediate") for item in database.intermediates]
    found += [row(name, leaf.certificate, ", ".join(leaf.certificate.usage)) for name, leaf in database.leaves.items()]
    listed = {item["serial"] for item in found}
    for number, item in database.serials.items() if everything else ():
        if f"{number:x}" not in listed:
            state = "revoked" if item.revoked else "replaced" if item.end > now else "expired"
            found.append({**_first_columns(item.name, f"{number:x}", None, item.end, now), "state": state})
    return found


def list_rows(database: Database, now: datetime) -> list[dict[str, Any]]:
    """Return a row for each revocation list."""
    lists = [(f"root g{root.index}", root.crl) for root in database.trusted_roots(now)]
    lists += [(item.certificate.common_name, item.crl) for item in database.intermediates]
    return [
        _first_columns(name, None, "list", found.next_update_utc, now)
        for name, found in lists
        if found is not None and found.next_update_utc
    ]


def _first_columns(name: str, serial: str | None, purpose: str | None, end: datetime, now: datetime) -> dict[str, Any]:
    left = (end - now) // timedelta(days=1)
    return {"name": name, "serial": serial, "purpose": purpose, "end": end.isoformat(), "days_left": left}


def with_days(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows for a terminal, with days instead of times."""
    return [
        {key.replace("_", " "): value[:10] if key == "end" else value for key, value in row.items()} for row in rows
    ]


def root_facts(database: Database, root: Root, for_programs: bool) -> dict[str, Any]:
    """Return what identifies a root. For people the fingerprint is in two lines, which are compared by eye."""
    text = pki.fingerprint(root.certificate.content)
    groups = [text[start : start + 4].upper() for start in range(0, len(text), 4)]
    lines = {"fingerprint": " ".join(groups[:8]), "": " ".join(groups[8:])}
    identity = database.identity(root)
    return {
        "root": f"g{root.index}",
        **({"fingerprint": text} if for_programs else lines),
        "uri": identity.uri,
        "path": identity.path,
        "until": day(root.certificate.end),
    }


def certificate_facts(database: Database, name: str, now: datetime) -> dict[str, Any]:
    """Return everything public about a certificate."""
    leaf = database.leaves[name]
    certificate = leaf.certificate
    key: Any = certificate.content.public_key()
    curve = getattr(key, "curve", None)
    return {
        **next(row for row in certificate_rows(database, now) if row["serial"] == f"{certificate.serial:x}"),
        "begin": certificate.begin.isoformat(),
        "subject": certificate.common_name,
        "names": list(certificate.names),
        "issuer": certificate.content.issuer.rfc4514_string().removeprefix("CN="),
        "key": curve.name if curve else f"RSA {key.key_size}" if hasattr(key, "key_size") else "Ed25519",
        "fingerprint": pki.fingerprint(certificate.content),
        "chain": "".join(item.pem for item in database.chain_of(leaf, now)),
    }


def qr_code(root: Root) -> list[str]:
    """Return the root as a QR code, or its fingerprint if the terminal has no room for that."""
    code = qr.code(root.certificate.pem)
    if qr.fits(code):
        return ["The root's certificate:", *qr.drawn(code)]
    columns, lines = qr.size(code)
    title = f"The root's fingerprint (its certificate needs a terminal of {columns} x {lines}):"
    return [title, *qr.drawn(qr.code(pki.fingerprint(root.certificate.content).upper()))]
