# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has certificates of servers and clients, all in one batch."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._ca.authority import LEAF, Authority, issued, want
from ansible_collections.bcm.core.plugins.module_utils._ca.pki import USAGES
from ansible_collections.bcm.core.plugins.module_utils._errors import BcmError
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import CaAction, reported, told


class ActionModule(CaAction):
    OWN_SPEC = {
        "certificates": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "common_name": {"type": "str"},
                "names": {"type": "list", "elements": "str", "default": []},
                "usage": {"type": "list", "elements": "str", "choices": list(USAGES), "default": ["server"]},
                "csr": {"type": "str"},
                "pkcs12": {"type": "bool", "default": False},
            },
        },
        "issuance": {"type": "str", "choices": ["intermediate", "direct"], "default": "intermediate"},
        "days": {"type": "int", "default": LEAF},
        "return_keys": {"type": "bool", "default": False},
    }

    def work(self, authority: Authority, params: dict[str, t.Any]) -> dict[str, t.Any]:
        wants = [want(**item) for item in params["certificates"]]
        names = [item.name for item in wants]
        for name in names:
            if names.count(name) > 1:
                raise BcmError(
                    f"Certificate {name} is asked for {names.count(name)} times: give each a name of its own"
                )
        outcome = authority.certificates(wants, direct=params["issuance"] == "direct", days=params["days"])
        private = params["return_keys"]
        return {
            **told(outcome, authority),
            **reported(outcome, authority, "trust"),
            "certificates": [issued(outcome, item, authority.now, private=private) for item in wants],
            **({"_ansible_no_log": True} if private else {}),
        }
