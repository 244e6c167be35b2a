# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims a data center for a run: its lock at the endpoint, and its identity."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._datacenter.identity import (
    claim,
    has_project,
    identity_of,
    is_saved,
    record_authority,
)
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction, secrets_directory

_CONNECTION = ("endpoint", "client_cert", "client_key", "server_cert", "timeout")


class ActionModule(BcmAction):
    _supports_diff = False
    LXD = True
    LXD_WITHOUT = ("project", "target")
    ARGUMENT_SPEC = {
        "datacenter": {"type": "str", "required": True},
        "chain": {"type": "str", "required": True},
        "abandoned_identity": {"type": "str"},
        "identity": {"type": "str"},
        "directory": {"type": "path"},
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        directory = Path(params["directory"] or secrets_directory(task_vars))
        place = params["datacenter"], params["chain"], directory
        if params["identity"]:
            identity = identity_of(*place)
            changed = identity.read() != params["identity"]
            if changed and not self.check_mode:
                identity.keep(params["identity"])
            changed |= record_authority(self.client, *place, check=self.check_mode)
            recorded = has_project(self.client, params["datacenter"], params["chain"])
            return {"changed": changed, "identity": params["identity"], "recorded": recorded}
        options = {name: params[name] for name in _CONNECTION if params[name] is not None}
        run = None if self.check_mode else os.getppid()
        identity = claim(self.client, options, *place, run=run, abandoned=params["abandoned_identity"])
        return {"identity": identity, "saved": is_saved(self.client, *place, identity=identity)}
