# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Profiles (``.mobileconfig``), which phones and computers of Apple install. ``bcm_guest.apple_profile``.

The same input makes the same bytes, and a profile takes the place of an earlier one of the same identifier.
"""

from __future__ import annotations

import plistlib
import ssl
import uuid
from typing import Any

_PEM_END = "-----END CERTIFICATE-----\n"


def root_profile(datacenter: str, roots: str) -> bytes:
    """With it, roots in PEM are there to be trusted."""
    name = f"Root certificate of {datacenter}"
    return _profile(f"bcm.{datacenter}", name, _root_payloads(datacenter, name, roots))


def client_profile(datacenter: str, roots: str, client: str, pkcs12: bytes, password: str) -> bytes:
    """With it, the client has its certificate and its key, too, and nobody has to type the password of the archive."""
    identifier, name = f"bcm.{datacenter}.{client}", f"{client} in {datacenter}"
    own = {
        **_part("com.apple.security.pkcs12", f"{identifier}.certificate", name),
        "Password": password,
        "PayloadContent": pkcs12,
    }
    return _profile(identifier, name, [*_root_payloads(identifier, f"Root certificate of {datacenter}", roots), own])


def _profile(identifier: str, name: str, payloads: list[dict[str, Any]]) -> bytes:
    return plistlib.dumps({**_part("Configuration", identifier, name), "PayloadContent": payloads})


def _root_payloads(identifier: str, name: str, roots: str) -> list[dict[str, Any]]:
    pems = [f"{part}{_PEM_END}" for part in roots.split(_PEM_END) if part.strip()]
    return [
        {
            **_part("com.apple.security.root", f"{identifier}.root{number}", name),
            "PayloadContent": ssl.PEM_cert_to_DER_cert(pem.strip()),
        }
        for number, pem in enumerate(pems)
    ]


def _part(kind: str, identifier: str, name: str) -> dict[str, Any]:
    """What a profile and each of its payloads begin with."""
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": identifier,
        "PayloadUUID": str(uuid.uuid5(uuid.NAMESPACE_OID, identifier)).upper(),
        "PayloadDisplayName": name,
    }
