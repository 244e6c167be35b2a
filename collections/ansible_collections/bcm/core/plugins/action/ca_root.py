# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Creates the root of a data center, or the next generation of it."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.issuance_plan import ROOT_DAYS
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import CaAction, change_result


class ActionModule(CaAction):
    OWN_SPEC = {
        "generation": {"type": "int"},
        "allow_new_root": {"type": "bool", "default": False},
        "days": {"type": "int", "default": ROOT_DAYS},
    }

    def work(self, authority: Authority, params: dict[str, t.Any]) -> dict[str, t.Any]:
        result = authority.ensure_root(params["generation"], allow_new=params["allow_new_root"], days=params["days"])
        return change_result(result, authority, "roots", "trust")
