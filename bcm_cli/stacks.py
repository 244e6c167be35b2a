# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stacks that can be named in a data center."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._plan.settings import PREFIX, SETTINGS

from . import setup
from .datacenter import DataCenter, UsageError

if TYPE_CHECKING:
    from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
    from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Stack


def catalogue(datacenter: DataCenter) -> Catalogue:
    from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue

    path = datacenter.variable("bcm_stack_path") or []
    # As in site.yml, which runs in that directory and takes lists in this form, too.
    entries = path.split(",") if isinstance(path, str) else path
    known = Catalogue.read([setup.ROOT / Path(entry).expanduser() for entry in entries])
    return known.resolved(datacenter.role_variables)


def checked(datacenter: DataCenter, stacks: Iterable[str]) -> Catalogue:
    """Return the catalogue, if it has these stacks. Raises UsageError."""
    known = catalogue(datacenter)
    for name in stacks:
        if name not in known:
            raise UsageError.of(names.unknown_stack(name, known))
    return known


def pages(stack: Stack, address: str, chain: str) -> list[dict[str, str]]:
    """Return title and URL of the pages of a stack at the address of its instance."""
    found = ((page, stack.services[page.service]) for page in stack.web)
    return [
        {"title": page.title, "url": page.url(f"{address}:{service.ports[chain]}", service.tls)}
        for page, service in found
        if chain in service.ports and not service.host_port  # which is somewhere else
    ]


def settings(datacenter: DataCenter) -> dict[str, str]:
    """Return all settings, key -> variable: those of the data center, and the variables of stacks."""
    found = {name.removeprefix(PREFIX): name for name in SETTINGS}
    for stack in catalogue(datacenter).values():
        names_of_role = datacenter.role_variables([stack]).names(stack)
        found |= {name: name for name in sorted({*names_of_role, *stack.derived_variables})}
    return found
