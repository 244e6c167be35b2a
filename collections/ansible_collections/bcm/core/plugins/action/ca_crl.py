# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Revokes certificates and renews the revocation lists."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.pki import REASONS
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import CaAction, change_result


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
        result = authority.ensure_lists({_parse_serial(item["serial"]): item["reason"] for item in params["revoke"]})
        return change_result(result, authority, "crl")


def _parse_serial(serial: str) -> int:
    try:
        return int(serial.replace(":", ""), 16)
    except ValueError as error:
        raise BcmError(
            f'"{serial}"', "is not a serial", "write it in hexadecimal, as ca_info shows it", code="invalid_value"
        ) from error
