# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.lxd_apply."""

from __future__ import annotations

import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import kind_of, parse
from ansible_collections.bcm.core.plugins.plugin_utils._resource_action import ReconcileAction

_TEXT = {"type": "str"}
_EVERYWHERE = {"kind": _TEXT, "project": _TEXT, "target": _TEXT, "owner": {"type": "dict"}}


class ActionModule(ReconcileAction):
    ARGUMENT_SPEC = {"resources": {"type": "list", "elements": "dict", "required": True}}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        resources = []
        for item in params["resources"]:
            kind = kind_of(item)
            checked = ArgumentSpecValidator({**_EVERYWHERE, **kind.argument_spec()}).validate(item)
            if checked.error_messages:
                raise LxdError(f"{kind.noun} {item['name']}:", "; ".join(checked.error_messages), code="invalid_value")
            resources.append(parse(checked.validated_parameters, project=params["project"], target=params["target"]))
        return self.apply(resources)
