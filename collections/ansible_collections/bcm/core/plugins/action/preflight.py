# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks an endpoint against a plan before anything is changed."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._datacenter.preflight import check
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction
from ansible_collections.bcm.core.plugins.plugin_utils._lxd_options import client_from


class ActionModule(BcmAction):
    LXD = True
    LXD_WITHOUT = ("project", "target")
    ARGUMENT_SPEC = {"plan": {"type": "dict", "required": True}}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        with client_from({**params, "project": params["plan"]["project"]}) as client:
            return check(client, params["plan"])
