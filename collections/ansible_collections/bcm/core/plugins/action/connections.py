# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.connections."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._datacenter.forbidden_connections import end_connections
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        "plan": {"type": "dict", "required": True},
        "instances": {"type": "list", "elements": "str", "required": True},
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        ended = end_connections(self.client, params["plan"], params["instances"], check=self.check_mode)
        return {"changed": bool(ended.connections), "ended": ended.connections, "faults": ended.faults}
