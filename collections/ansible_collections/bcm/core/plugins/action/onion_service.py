# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.onion_service."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._tor.reconcile import desired_services, refuse_lost_keys
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Services
from ansible_collections.bcm.core.plugins.plugin_utils._onion_options import OnionChange


class ActionModule(OnionChange):
    OWN_SPEC = {
        "exclusive": {"type": "bool", "default": False},
        "known": {"type": "list", "elements": "str", "default": []},
        "publish": {"type": "bool", "default": True},
        "network": {"type": "bool"},
        "services": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "ports": {
                    "type": "list",
                    "elements": "dict",
                    "options": {
                        "port": {"type": "int", "required": True},
                        "targets": {"type": "list", "elements": "str", "required": True},
                    },
                },
                "authorization": {"type": "bool", "default": True},
                "pow": {"type": "bool", "default": False},
                "intro_defense": {"type": "bool", "default": False},
                "max_streams": {"type": "int", "default": 0},
                "key": {"type": "str", "no_log": True},
                "address": {"type": "str"},
            },
        },
    }

    def desired(self, present: Services, params: dict[str, t.Any]) -> Services:
        refuse_lost_keys(present, params["services"], params["known"])
        return desired_services(present, params["services"], exclusive=params["exclusive"])

    def result(self, wanted: Services, params: dict[str, t.Any]) -> dict[str, t.Any]:
        asked = [item["name"] for item in params["services"] if item["state"] == "present"]
        return {"addresses": {name: wanted[name].key.address for name in asked}}
