# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps the secrets of a data center on the controller."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._datacenter.secrets_file import ensure_secrets, keep_secrets
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction, secrets_directory
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import of_run


class ActionModule(BcmAction):
    _supports_diff = False
    ARGUMENT_SPEC = {
        "chain": {"type": "str", "required": True, "choices": list(names.CHAINS)},
        "names": {"type": "list", "elements": "str", "default": []},
        "values": {"type": "dict", "default": {}, "no_log": True},
        "known": {"type": "list", "elements": "str", "default": []},
        "directory": {"type": "path"},
        "vault_id": {"type": "str"},
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        directory = Path(params["directory"] or secrets_directory(task_vars))
        path = directory / f"{params['chain']}.json"
        vault = of_run(params["vault_id"])
        values = {name: str(value) for name, value in params["values"].items()}
        kept = keep_secrets(path, values, check=self.check_mode, vault=vault) if values else []
        found = ensure_secrets(path, params["names"], check=self.check_mode, vault=vault, known=params["known"])
        return {
            "changed": bool(found.made or kept),
            "secrets": found.of_stacks(),
            "public": found.public(),
            "made": sorted({*found.made, *kept}),
            "path": str(path),
            "_ansible_no_log": True,
        }
