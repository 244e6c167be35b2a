# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.onion_client."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.qr import code, drawn
from ansible_collections.bcm.core.plugins.module_utils._tor.reconcile import with_clients
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Services, client_instructions
from ansible_collections.bcm.core.plugins.plugin_utils._onion_options import OnionChange


class ActionModule(OnionChange):
    OWN_SPEC = {
        "service": {"type": "str", "required": True},
        "clients": {"type": "list", "elements": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "return_keys": {"type": "bool", "default": False},
    }

    def desired(self, present: Services, params: dict[str, t.Any]) -> Services:
        name = params["service"]
        if name not in present:
            there = f"there are {', '.join(sorted(present))}" if present else "there is none yet"
            raise BcmError(
                f"There is no onion service {name}, {there}",
                remedy="make it with onion_service",
                code="not_found",
                about=f"onion service {name}",
            )
        admitted = with_clients(present[name], params["clients"], present=params["state"] == "present")
        return {**present, name: admitted}

    def result(self, wanted: Services, params: dict[str, t.Any]) -> dict[str, t.Any]:
        service = wanted[params["service"]]
        result: dict[str, t.Any] = {"address": service.key.address, "instructions": client_instructions(service)}
        if params["return_keys"] and not self.check_mode:
            result["clients"] = [
                {
                    "name": name,
                    "key": service.clients[name].text,
                    "auth_private": service.clients[name].client_line(service.key.address),
                    "qr": "\n".join(drawn(code(service.clients[name].text))),
                }
                for name in params["clients"]
                if name in service.clients
            ]
            result["_ansible_no_log"] = True
        return result
