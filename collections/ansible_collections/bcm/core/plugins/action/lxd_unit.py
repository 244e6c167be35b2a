# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.lxd_unit."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.bcm.core.plugins.module_utils._lxd.units import apply_units
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction
from ansible_collections.bcm.core.plugins.plugin_utils._files_option import FILES_ARGUMENT, wanted_files


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        "instance": {"type": "str", "required": True},
        "files": FILES_ARGUMENT,
        "units": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
                "enabled": {"type": "bool"},
                "action": {"type": "str", "choices": ["restart", "reload"], "default": "restart"},
            },
        },
        "deadline": {"type": "float", "default": 120.0},
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        files = wanted_files(params["files"], functools.partial(self._find_needle, "files"))
        done = apply_units(
            self.client,
            params["instance"],
            files,
            params["units"],
            check=self.check_mode,
            deadline=params["deadline"],
        )
        return {
            "changed": bool(done.files or done.actions),
            "files": done.files,
            "actions": done.actions,
            "digest": done.digest,
            "diff": done.diff,
        }
