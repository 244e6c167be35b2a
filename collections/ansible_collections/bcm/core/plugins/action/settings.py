# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks the settings of a data center, wherever its inventory has them, and changes nothing."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._plan import settings
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import stack_names
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction, plain
from ansible_collections.bcm.core.plugins.plugin_utils.inventory_places import find_places
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import FUNCTIONS, names_in_templates

#: variables that instances get during a run, and those that Ansible gives every host
_LATER = ("bcm", "ansible_")


class ActionModule(BcmAction):
    ARGUMENT_SPEC = {"stack_path": {"type": "list", "elements": "path", "default": []}}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        for name, value in task_vars.items():
            if (hint := settings.hint_of(value)) is not None:
                raise settings.not_set_yet(name, hint)
        # first of all, since the option may be one of them
        undefined = [name for name in task_vars if self._is_setting(name) and self._uses_undefined(task_vars[name])]
        places = find_places(self._loader, task_vars.get("hostvars"), stack_names(params["stack_path"]))
        unread = settings.check_settings(places)
        defined = {*task_vars, *FUNCTIONS}.union(*(place.variables for place in places))
        for place in places:
            for name, value in place.variables.items():
                if name.startswith(settings.PREFIX) and not place.is_everywhere:
                    used = names_in_templates(value).difference(defined)
                    if not all(other.startswith(_LATER) for other in used):
                        undefined.append(f"{name} ({place.title})")
        if undefined:
            raise BcmError(
                ", ".join(dict.fromkeys(undefined)),
                "uses a variable that is not defined",
                "correct it in the inventory, or where it was given with -e",
                code="invalid_value",
            )
        warnings = [f"Variable {name} begins with {settings.PREFIX}, but is not one of the settings" for name in unread]
        return {"unread": unread, "warnings": warnings}

    @staticmethod
    def _is_setting(name: str) -> bool:
        return name.startswith((settings.PREFIX, "lxd_")) or name in settings.OF_COMMAND

    def _uses_undefined(self, value: t.Any) -> bool:
        try:
            plain(self._templar.template(value))
        except AnsibleUndefinedVariable:
            return True
        except AnsibleValueOmittedError:
            return False
        except AnsibleError:  # whoever reads it says what it is
            return False
        return False
