# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.lxd_info."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import quoted
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import NotFound
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import KINDS
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction

_COLLECTIONS = {
    **{kind.name: kind.collection for kind in KINDS.values()},
    "image": "/1.0/images",
    "certificate": "/1.0/certificates",
    "cluster_member": "/1.0/cluster/members",
    "operation": "/1.0/operations",
    "server": "/1.0",
}
_PARENTS = {kind.name: tuple(kind.parents) for kind in KINDS.values() if kind.parents}


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        "kind": {"type": "str", "required": True, "choices": sorted(_COLLECTIONS)},
        "name": {"type": "str"},
        **{parent: {"type": "str"} for parents in _PARENTS.values() for parent in parents},
    }
    CONSTRAINTS = {"required_if": [("kind", kind, parents) for kind, parents in _PARENTS.items()]}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        parents = {key: quoted(params[key]) for key in _PARENTS.get(params["kind"], ())}
        path = _COLLECTIONS[params["kind"]].format(**parents)
        if params["kind"] == "server":
            return {"resources": [self.client.server]}
        if params["name"] is not None:
            found = self.client.find(f"{path}/{quoted(params['name'])}")
            return {"resources": [] if found is None else [found]}
        try:
            # Of a project, the server lists only the warnings that name it, and many name none.
            project = {"project": None} if params["kind"] == "warning" else {}
            found = self.client.get(path, recursion=1, **project)
        except NotFound:
            found = []
        if params["kind"] == "operation":  # the one collection that is sorted by status
            found = [operation for group in found.values() for operation in group]
        return {"resources": found}
