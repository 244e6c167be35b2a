# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm ca` shows of an authority: tables, fingerprints, a code for cameras."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import due
from ansible_collections.bcm.core.plugins.module_utils._ca.database import Database, Root
from ansible_collections.bcm.core.plugins.plugin_utils import _qr as qr

if TYPE_CHECKING:
    from cryptography import x509


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def rows(book: Database, now: datetime, everything: bool = False) -> list[dict[str, Any]]:
    """A row for each certificate in use; ``everything``: also for those that were replaced, and are not forgotten."""

    def row(name: str, certificate: x509.Certificate, purpose: str) -> dict[str, Any]:
        end, number = certificate.not_valid_after_utc, certificate.serial_number
        known = book.serials.get(number)
        # Nobody renews a root by the day, nor the bridge to the next one.
        is_due = purpose not in ("root", "cross") and due(certificate, now)
        state = "revoked" if known and known.revoked else "expired" if end <= now else "due" if is_due else "good"
        return {**_head(name, f"{number:x}", purpose, end, now), "state": state}

    found = []
    trusted = book.trusted(now)
    for root in book.roots:
        of_root = [row(f"root g{root.index}", root.certificate, "root")] if everything or root in trusted else []
        if root.cross is not None and (everything or root.cross.not_valid_after_utc > now):
            of_root.append(row(f"cross g{root.index}", root.cross, "cross"))
        found += [{**item, "state": "distrusted"} if root.distrusted else item for item in of_root]
    found += [row(pki.common_name(item.certificate), item.certificate, "intermediate") for item in book.intermediates]
    for name, leaf in book.leaves.items():
        found.append(row(name, leaf.certificate, ", ".join(pki.usage_of(leaf.certificate))))
    shown = {item["serial"] for item in found}
    for number, item in book.serials.items() if everything else ():
        if f"{number:x}" not in shown:
            state = "revoked" if item.revoked else "replaced" if item.end > now else "expired"
            found.append({**_head(item.name, f"{number:x}", None, item.end, now), "state": state})
    return found


def list_rows(book: Database, now: datetime) -> list[dict[str, Any]]:
    """The same for revocation lists."""
    lists = [(f"root g{root.index}", root.crl) for root in book.trusted(now)]
    lists += [(pki.common_name(item.certificate), item.crl) for item in book.intermediates]
    return [
        _head(name, None, "list", found.next_update_utc, now)
        for name, found in lists
        if found is not None and found.next_update_utc
    ]


def _head(name: str, serial: str | None, purpose: str | None, end: datetime, now: datetime) -> dict[str, Any]:
    left = (end - now) // timedelta(days=1)
    return {"name": name, "serial": serial, "purpose": purpose, "end": end.isoformat(), "days_left": left}


def for_people(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with days for moments."""
    return [
        {key.replace("_", " "): value[:10] if key == "end" else value for key, value in row.items()} for row in found
    ]


def root_facts(book: Database, root: Root, for_programs: bool) -> dict[str, Any]:
    """What identifies a root; for people the fingerprint stands in two lines, as it is compared by eye."""
    text = pki.fingerprint(root.certificate)
    groups = [text[start : start + 4].upper() for start in range(0, len(text), 4)]
    lines = {"fingerprint": " ".join(groups[:8]), "": " ".join(groups[8:])}
    return {
        "root": f"g{root.index}",
        **({"fingerprint": text} if for_programs else lines),
        "uri": book.identity(root).uri,
        "path": book.identity(root).path,
        "until": day(root.certificate.not_valid_after_utc),
    }


def detail(book: Database, name: str, now: datetime) -> dict[str, Any]:
    """All that is public of a certificate."""
    leaf = book.leaves[name]
    certificate = leaf.certificate
    key: Any = certificate.public_key()
    curve = getattr(key, "curve", None)
    return {
        **next(row for row in rows(book, now) if row["serial"] == f"{certificate.serial_number:x}"),
        "begin": certificate.not_valid_before_utc.isoformat(),
        "subject": pki.common_name(certificate),
        "names": pki.names_of(certificate),
        "issuer": certificate.issuer.rfc4514_string().removeprefix("CN="),
        "key": curve.name if curve else f"RSA {key.key_size}" if hasattr(key, "key_size") else "Ed25519",
        "fingerprint": pki.fingerprint(certificate),
        "chain": "".join(map(pki.to_pem, book.chain(leaf, now))),
    }


def qr_code(root: Root) -> list[str]:
    """The root for a camera, or its fingerprint if the terminal has no room for that."""
    made = qr.code(pki.to_pem(root.certificate))
    if qr.fits(made):
        return ["The root's certificate:", *qr.drawn(made)]
    columns, lines = qr.size(made)
    said = f"The root's fingerprint (its certificate needs a terminal of {columns} x {lines}):"
    return [said, *qr.drawn(qr.code(pki.fingerprint(root.certificate).upper()))]
