# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates as a person asks for them on the command line: their names, requests and serials."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Container
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import unknown
from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import (
    CertificateRequest,
    RequestSource,
    new_request,
    renewal_request,
)
from ansible_collections.bcm.core.plugins.module_utils._ca.database import Database, Leaf
from ansible_collections.bcm.core.plugins.module_utils._ca.issuance_plan import LEAF_DAYS, check_days

from .datacenter import DataCenter, UsageError
from .stacks import catalogue

# It becomes the name of files.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ROOT_FILE = "root"


def check_name(name: str, datacenter: DataCenter) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f'"{name}"', "cannot be the name of a certificate", "use letters, digits, dots, hyphens and underscores"
        )
    if name in catalogue(datacenter):
        raise UsageError(
            f'"{name}"', "is a stack, whose certificates the playbook issues", "choose another name", code="conflict"
        )
    if name == ROOT_FILE:
        raise UsageError(f"{ROOT_FILE}.crt", "is the file of the root", "choose another name", code="conflict")


def check_days_option(days: int | None) -> None:
    try:
        check_days(LEAF_DAYS if days is None else days)
    except BcmError as error:
        raise UsageError.of(error) from error


def issue_requests(args: argparse.Namespace, authority: Authority, is_known: bool) -> RequestSource:
    """Return the requests of `bcm ca issue`. A known name alone asks for the certificate there is."""
    check_days_option(args.days)
    if args.csr and args.pkcs12:
        raise UsageError("PKCS#12", "holds a key, but the key of a CSR is elsewhere", "leave out --csr or --pkcs12")
    if is_known and not (args.names or args.usage or args.csr):

        def same(database: Database, keys: Container[str]) -> list[CertificateRequest]:
            request = renewal_request(args.certificate, database, keys)
            if request.keep_key and args.pkcs12:
                raise BcmError(
                    f"The key of {request.name}",
                    "is not in the vault, so it cannot be written as PKCS#12",
                    "leave out --pkcs12",
                    code="not_found",
                )
            return [replace(request, pkcs12=request.pkcs12 or args.pkcs12)]

        return same
    usage = args.usage or ["server"]
    if "server" in usage and not args.names:
        raise UsageError(args.certificate, "is for a server, but has no names", "add --name HOST, or --usage client")
    csr = _read_csr(args.csr, args.certificate) if args.csr else None
    try:
        request = new_request(args.certificate, args.names, usage, csr=csr, pkcs12=args.pkcs12)
    except BcmError as error:
        raise UsageError.of(error) from error
    for name in request.names:
        if not authority.scope.covers(name):
            raise UsageError(
                f'"{name}"',
                f"is outside of what may be certified ({authority.scope})",
                f"correct it, or add it to bcm_ca_domains or bcm_ca_subnets in {args.datacenter.group_vars}",
                code="not_allowed",
            )
    return lambda database, keys: [request]


def _read_csr(path: str, name: str) -> str:
    try:
        text = Path(os.path.expanduser(path)).read_text(encoding="ascii")
        pki.read_csr_key(text, name)
    except (OSError, ValueError) as error:
        fault = error.strerror if isinstance(error, OSError) else "it is not PEM"
        raise UsageError(path, f"cannot be read: {fault}", "name a file with a CSR in PEM", code="io_error") from error
    except BcmError as error:
        raise UsageError.of(error) from error
    return text


def leaf_of(database: Database, name: str) -> Leaf:
    if name not in database.leaves:
        raise UsageError.of(unknown("certificate", name, database.leaves))
    return database.leaves[name]


def serials_of(database: Database, text: str, now: datetime) -> list[int]:
    """Return the given serial, or those of all certificates of that name, without revoked and expired ones."""
    found = [serial for serial, item in database.serials.items() if item.name == text]
    digits = text.replace(":", "")
    if not found and re.fullmatch(r"[0-9a-fA-F]+", digits) and int(digits, 16) in database.serials:
        found = [int(digits, 16)]
    if not found:
        names = dict.fromkeys(item.name for item in database.serials.values())
        raise UsageError.of(unknown("certificate", text, names))
    return [serial for serial in found if not database.serials[serial].revoked and database.serials[serial].end > now]
