# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has current revocation lists, and revokes."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.pki import REASONS
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import CaAction, reported, told


class ActionModule(CaAction):
    OWN_SPEC = {
        "revoke": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "serial": {"type": "str", "required": True},
                "reason": {"type": "str", "choices": list(REASONS), "default": "unspecified"},
            },
        },
    }

    def work(self, authority: Authority, params: dict[str, t.Any]) -> dict[str, t.Any]:
        outcome = authority.crl({_number(item["serial"]): item["reason"] for item in params["revoke"]})
        return {**told(outcome, authority), **reported(outcome, authority, "crl")}


def _number(serial: str) -> int:
    try:
        return int(serial.replace(":", ""), 16)
    except ValueError as error:
        raise BcmError(
            f'"{serial}"', "is no serial", "write it in hexadecimal, as ca_info shows it", code="invalid_value"
        ) from error
