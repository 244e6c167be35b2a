# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims a data center for a run: its lock at the endpoint, and its identity."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._lxd import lease
from ansible_collections.bcm.core.plugins.module_utils._plan import names
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction
from ansible_collections.bcm.core.plugins.plugin_utils._identity import Identity
from ansible_collections.bcm.core.plugins.plugin_utils._secrets import beside_inventory

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
        datacenter, chain = params["datacenter"], params["chain"]
        project = names.datacenter_names(datacenter, chain).project
        directory = Path(params["directory"] or beside_inventory(task_vars))
        identity = Identity(directory, chain, f"Data center {datacenter} ({chain})")
        if params["identity"]:
            changed = identity.read() != params["identity"]
            if changed and not self.check_mode:
                identity.keep(params["identity"])
            return {"changed": changed, "identity": params["identity"]}
        known = self._known(identity, project, params)
        if not self.check_mode:
            options = {name: params[name] for name in _CONNECTION if params[name] is not None}
            lease.hold(options, f"{project}-lock", f"Data center {datacenter} ({chain})", os.getppid())
            # whoever held it until now may have made the data center
            self._known(identity, project, params)
        return {"identity": known}

    def _known(self, identity: Identity, project: str, params: dict[str, t.Any]) -> str:
        found = self.client.find(f"/1.0/projects/{project}", project=False) or {"config": {}}
        return identity.known(found["config"], params["abandoned_identity"], self.client.endpoint.name)
