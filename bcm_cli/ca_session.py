# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority of a data center, as its inventory describes it: read without a device, or changed with one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names, unknown
from ansible_collections.bcm.core.plugins.module_utils._base.network import subnets
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority, Result
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import (
    CertificateRequest,
    RequestSource,
    renewal_request,
)
from ansible_collections.bcm.core.plugins.module_utils._ca.database import Database
from ansible_collections.bcm.core.plugins.module_utils._ca.open_authority import open_authority
from ansible_collections.bcm.core.plugins.module_utils._plan.access import Access
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Site

from . import setup, trezor_session
from .datacenter import DataCenter
from .stacks import catalogue

# -- which authority --------------------------------------------------------------------------------------------------


class _AnyKey(dict[str, str]):
    def __contains__(self, key: object) -> bool:
        return True


class _PublicFiles(AuthorityFiles):
    """The public file alone. No key counts as lost, so a dry run needs no device that opens the vault."""

    def keys(self) -> dict[str, str]:
        return _AnyKey()


def read_only(datacenter: DataCenter) -> Authority:
    """Return the authority in check mode, with its public file alone."""
    authority = open_authority(_options(datacenter), datacenter.secrets, True, setup.step)
    authority.files = _PublicFiles(datacenter.secrets, datacenter.chain, vault=None)
    return authority


def _options(datacenter: DataCenter) -> dict[str, Any]:
    chain = datacenter.chain
    own = subnets(datacenter.name, chain, datacenter.variable("bcm_subnet")).network
    access = _access(datacenter)
    return {
        "chain": chain,
        "domain": datacenter_names(datacenter.name, chain).domain,
        "domains": [*_read_list(datacenter, "bcm_ca_domains"), *access.domains],
        "subnets": [str(own), *_read_list(datacenter, "bcm_ca_subnets"), *access.addresses],
        "provider": datacenter.ca_provider,
        "device": datacenter.ca_device,
        "software_ca_chains": _read_list(datacenter, "bcm_software_ca_chains"),
    }


def _access(datacenter: DataCenter) -> Access:
    """What `bcm_access` says, which needs all stacks to be read."""
    if not datacenter.variable("bcm_access"):
        return Access()
    return Site(catalogue(datacenter), datacenter.request([])).access


def _read_list(datacenter: DataCenter, name: str) -> list[str]:
    value = datacenter.variable(name) or []
    # As Ansible takes it for a list.
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else list(map(str, value))


def is_direct(datacenter: DataCenter) -> bool:
    """Return whether the root signs each certificate."""
    issuance = str(datacenter.variable("bcm_ca_issuance") or "intermediate")
    if issuance not in ("intermediate", "direct"):
        raise unknown("issuance", issuance, ("intermediate", "direct"))
    return issuance == "direct"


# -- changes ----------------------------------------------------------------------------------------------------------


def change_authority(datacenter: DataCenter, work: Callable[[Authority], Result]) -> Result:
    """Change the authority, with the vault and the device open."""
    with trezor_session.session(datacenter) as environment:
        vault, session = trezor_session.vault(datacenter, environment), trezor_session.session_file(environment)
        return work(open_authority(_options(datacenter), datacenter.secrets, False, setup.step, vault, session))


def renewal_requests(names: Sequence[str]) -> RequestSource:
    """Return requests to renew these certificates; without names, all that are not revoked."""

    def requests(database: Database, keys: Container[str]) -> list[CertificateRequest]:
        found = names or unrevoked_names(database)
        return [replace(renewal_request(name, database, keys), renew=bool(names)) for name in found]

    return requests


def unrevoked_names(database: Database) -> list[str]:
    """Return the names of certificates that are not revoked."""
    serials = {name: leaf.certificate.serial for name, leaf in database.leaves.items()}
    known = database.serials
    return [name for name, serial in serials.items() if serial not in known or not known[serial].revoked]
