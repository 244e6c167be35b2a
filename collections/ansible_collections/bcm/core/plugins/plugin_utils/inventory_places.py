# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where an inventory sets variables: for groups and hosts, those included that join it during a run."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.inventory.group import Group
from ansible.inventory.host import Host
from ansible.utils.vars import load_extra_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

from ..module_utils._base.errors import BcmError
from ..module_utils._base.names import variable_prefix
from ..module_utils._plan.settings import Place
from ..module_utils._plan.stack_file import TIERS

if TYPE_CHECKING:
    from ansible.parsing.dataloader import DataLoader


def find_places(loader: DataLoader, hostvars: Any, stacks: Collection[str]) -> list[Place]:
    """Return where variables are set, and which; each instance is called after its stack. Raises BcmError."""
    found = [Place("-e", load_extra_vars(loader), is_everywhere=True)]
    # Ansible shows a task the hosts of the inventory, and no other way to its groups.
    inventory = getattr(hostvars, "_inventory", None)
    if inventory is not None:
        instances = set(stacks)
        # as in site.yml
        joined = {"bcm_instances", *(f"tier_{tier}" for tier in TIERS)}
        joined |= {f"stack_{variable_prefix(name)}" for name in instances}
        for name, group in {**{name: Group(name) for name in sorted(joined)}, **inventory.groups}.items():
            has_instances = name in joined or any(host.name in instances for host in group.get_hosts())
            variables, everywhere = _variables(loader, inventory, group), name == "all"
            found.append(Place(f"group {name}", variables, everywhere, has_instances and not everywhere))
        for name, host in {**{name: Host(name) for name in sorted(instances)}, **inventory.hosts}.items():
            found.append(Place(f"host {name}", _variables(loader, inventory, host), False, name in instances))
    return [place for place in found if place.variables]


def _variables(loader: DataLoader, inventory: Any, entity: Group | Host) -> dict[str, Any]:
    """The variables of a group or host in the inventory itself, and in the files beside it."""
    try:
        beside = get_vars_from_inventory_sources(loader, inventory._sources, [entity], "task")
    except AnsibleError as error:
        raise BcmError(f"The variables of {entity.name}", f"cannot be read: {error}", code="invalid_value") from error
    return {**entity.vars, **beside}
