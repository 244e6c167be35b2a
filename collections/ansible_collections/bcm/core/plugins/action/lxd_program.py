# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.lxd_program."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._base.text import shown
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_programs
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        "instance": {"type": "str", "required": True},
        "program": {"type": "path", "required": True},
        "request": {"type": "dict", "default": {}},
        "then": {
            "type": "dict",
            "options": {"program": {"type": "path", "required": True}, "request": {"type": "dict", "default": {}}},
        },
        "sensitive": {"type": "bool", "default": False},
        "exclusive": {"type": "bool", "default": False},
        "deadline": {"type": "float", "default": 600.0},
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        asked = [params, params["then"]] if params["then"] else [params]
        answers, fault = ask_programs(
            self.client,
            params["instance"],
            [(Path(item["program"]), item["request"]) for item in asked],
            deadline=params["deadline"],
            sensitive=params["sensitive"],
            exclusive=params["exclusive"],
        )
        if fault is not None and not answers:
            raise fault
        found: dict[str, t.Any] = dict(zip(("answer", "then_answer"), answers, strict=False))
        if fault is not None:
            found["then_fault"] = shown(str(fault))
        return {"changed": False, **found, "_ansible_no_log": params["sensitive"]}
