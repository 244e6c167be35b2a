# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authority of a data center as its inventory has it: looked at without a device, and at work with one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names, unknown
from ansible_collections.bcm.core.plugins.module_utils._base.network import subnets
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority, Outcome, Want, Wants, again
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._ca.database import Database
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import authority

from . import setup, trezor_session
from .datacenter import DataCenter

# -- which authority --------------------------------------------------------------------------------------------------


class _Every(dict[str, str]):
    def __contains__(self, key: object) -> bool:
        return True


class _Public(AuthorityFiles):
    """What is public, as if no key were lost: says what is to be done without the device that opens the vault."""

    def keys(self) -> dict[str, str]:
        return _Every()


def seen(datacenter: DataCenter) -> Authority:
    """The authority as all may see it, in check mode."""
    made = authority(_options(datacenter), datacenter.secrets, True)
    made.store = _Public(made.store.directory, datacenter.chain, vault=None)
    return made


def _options(datacenter: DataCenter) -> dict[str, Any]:
    chain = datacenter.chain
    own = subnets(datacenter.name, chain, datacenter.variable("bcm_subnet")).network
    return {
        "chain": chain,
        "domain": datacenter_names(datacenter.name, chain).domain,
        "domains": _listed(datacenter, "bcm_ca_domains"),
        "subnets": [str(own), *_listed(datacenter, "bcm_ca_subnets")],
        "provider": datacenter.ca_provider,
        "device": datacenter.ca_device,
        "software_ca_chains": _listed(datacenter, "bcm_software_ca_chains"),
    }


def _listed(datacenter: DataCenter, name: str) -> list[str]:
    value = datacenter.variable(name) or []
    # As Ansible takes it for a list.
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else list(map(str, value))


def is_direct(datacenter: DataCenter) -> bool:
    """Whether the root signs each certificate."""
    issuance = str(datacenter.variable("bcm_ca_issuance") or "intermediate")
    if issuance not in ("intermediate", "direct"):
        raise unknown("issuance", issuance, ("intermediate", "direct"))
    return issuance == "direct"


# -- what is done -----------------------------------------------------------------------------------------------------


def carry_out(datacenter: DataCenter, work: Callable[[Authority], Outcome]) -> Outcome:
    """Do it, with the vault open and the device at hand."""
    with trezor_session.session(datacenter) as environment:
        vault, kept = trezor_session.vault(datacenter, environment), trezor_session.kept(environment)
        return work(authority(_options(datacenter), datacenter.secrets, False, vault, setup.step, kept))


def present(names: Sequence[str]) -> Wants:
    """These anew, or without names all that are to be kept up: who was revoked was not meant to come back."""

    def wanted(book: Database, keys: Container[str]) -> list[Want]:
        kept = names or current(book)
        return [replace(again(name, book, keys), anew=bool(names)) for name in kept]

    return wanted


def current(book: Database) -> list[str]:
    """Names of certificates that are not revoked."""
    known = book.serials
    numbers = {name: leaf.certificate.serial_number for name, leaf in book.leaves.items()}
    return [name for name, number in numbers.items() if number not in known or not known[number].revoked]
