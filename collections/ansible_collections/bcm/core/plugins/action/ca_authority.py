# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Creates and renews root, intermediate, certificates and revocation lists."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.issuance_plan import LEAF_DAYS
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import (
    CERTIFICATES_ARGUMENT,
    ISSUANCE_ARGUMENT,
    CaAction,
    certificate_requests,
    certificate_results,
    change_result,
)


class ActionModule(CaAction):
    OWN_SPEC = {
        "certificates": {**CERTIFICATES_ARGUMENT, "default": []},
        "issuance": ISSUANCE_ARGUMENT,
        "generation": {"type": "int"},
        "allow_new_root": {"type": "bool", "default": False},
        "days": {"type": "int", "default": LEAF_DAYS},
        "return_keys": {"type": "bool", "default": False},
    }

    def work(self, authority: Authority, params: dict[str, t.Any]) -> dict[str, t.Any]:
        requests = certificate_requests(params["certificates"])
        result = authority.ensure_all(
            requests,
            generation=params["generation"],
            allow_new=params["allow_new_root"],
            direct=params["issuance"] == "direct",
            days=params["days"],
        )
        return {
            **change_result(result, authority, "roots", "trust", "crl", "lists_end"),
            "certificates": certificate_results(requests, result, authority, private=params["return_keys"]),
            **({"_ansible_no_log": True} if params["return_keys"] else {}),
        }
