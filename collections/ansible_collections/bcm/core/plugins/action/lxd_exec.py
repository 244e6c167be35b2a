# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.lxd_exec."""

from __future__ import annotations

import typing as t

from ansible.utils.display import Display

from ansible_collections.bcm.core.plugins.module_utils._lxd.commands import run_commands
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction

_COMMAND: dict[str, dict[str, t.Any]] = {
    "argv": {"type": "list", "elements": "str"},
    "unless": {"type": "list", "elements": "str"},
    "creates": {"type": "path"},
    "stdin": {"type": "str"},
    "environment": {"type": "dict"},
    "user": {"type": "str"},
    "group": {"type": "str"},
    "chdir": {"type": "path"},
    "changed": {"type": "bool", "default": True},
    "accept": {"type": "list", "elements": "int", "default": [0]},
    "sensitive": {"type": "bool", "default": False},
    "progress": {
        "type": "dict",
        "options": {"pattern": {"type": "str", "required": True}, "words": {"type": "str", "required": True}},
    },
}


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        "instance": {"type": "str", "required": True},
        **_COMMAND,
        "commands": {
            "type": "list",
            "elements": "dict",
            "options": {**_COMMAND, "argv": {**_COMMAND["argv"], "required": True}},
        },
        "deadline": {"type": "float", "default": 600.0},
    }
    CONSTRAINTS = {
        "required_one_of": [["argv", "commands"]],
        "mutually_exclusive": [["commands", name] for name in _COMMAND],
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        commands = params["commands"] or [{name: params[name] for name in _COMMAND}]
        inherited: dict[str, t.Any] = {}
        self._compute_environment_string(inherited)
        commands = [{**item, "environment": {**inherited, **(item["environment"] or {})}} for item in commands]
        done = run_commands(
            self.client,
            params["instance"],
            commands,
            check=self.check_mode,
            deadline=params["deadline"],
            # for the screen alone, where it takes the place of what it said before
            notify=lambda text: Display().display(f"{task_vars['inventory_hostname']}: {text}", screen_only=True),
        )
        result: dict[str, t.Any] = {"changed": done.changed, "commands": done.commands}
        if done.failure is not None:
            result.update(failed=True, msg=done.failure)
        return result
