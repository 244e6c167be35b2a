# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.lxd_info."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import quoted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import NotFound
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction

_COLLECTIONS = {
    "certificate": "/1.0/certificates",
    "cluster_member": "/1.0/cluster/members",
    "image": "/1.0/images",
    "instance": "/1.0/instances",
    "network": "/1.0/networks",
    "network_acl": "/1.0/network-acls",
    "operation": "/1.0/operations",
    "profile": "/1.0/profiles",
    "project": "/1.0/projects",
    "server": "/1.0",
    "snapshot": "/1.0/instances/{instance}/snapshots",
    "storage_pool": "/1.0/storage-pools",
    "storage_volume": "/1.0/storage-pools/{pool}/volumes/custom",
}


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        "kind": {"type": "str", "required": True, "choices": sorted(_COLLECTIONS)},
        "name": {"type": "str"},
        "pool": {"type": "str"},
        "instance": {"type": "str"},
    }
    CONSTRAINTS = {"required_if": [("kind", "storage_volume", ("pool",)), ("kind", "snapshot", ("instance",))]}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        parents = {key: quoted(params[key]) for key in ("pool", "instance") if params[key]}
        path = _COLLECTIONS[params["kind"]].format(**parents)
        if params["kind"] == "server":
            return {"resources": [self.client.server]}
        if params["name"] is not None:
            found = self.client.find(f"{path}/{quoted(params['name'])}")
            return {"resources": [] if found is None else [found]}
        try:
            found = self.client.get(path, recursion=1)
        except NotFound:
            found = []
        if params["kind"] == "operation":  # the one collection that is sorted by status
            found = [operation for group in found.values() for operation in group]
        return {"resources": found}
