# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has certificates of servers and clients, all in one batch."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._ca.authority import LEAF, Authority, issued
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import (
    CERTIFICATES_ARGUMENT,
    ISSUANCE_ARGUMENT,
    CaAction,
    reported,
    told,
    wanted,
)


class ActionModule(CaAction):
    OWN_SPEC = {
        "certificates": {**CERTIFICATES_ARGUMENT, "required": True},
        "issuance": ISSUANCE_ARGUMENT,
        "days": {"type": "int", "default": LEAF},
        "return_keys": {"type": "bool", "default": False},
    }

    def work(self, authority: Authority, params: dict[str, t.Any]) -> dict[str, t.Any]:
        wants = wanted(params["certificates"])
        outcome = authority.certificates(wants, direct=params["issuance"] == "direct", days=params["days"])
        private = params["return_keys"]
        return {
            **told(outcome, authority),
            **reported(outcome, authority, "trust"),
            "certificates": [issued(outcome, item, authority.now, private=private) for item in wants],
            **({"_ansible_no_log": True} if private else {}),
        }
