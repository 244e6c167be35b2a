# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The actions that reconcile resources: options in, the engine's outcome out."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

from ansible.utils.display import Display

from ansible_collections.bcm.core.plugins.module_utils._base.text import harmless
from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import ApplyError, Outcome, reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.handler_base import Step
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import KINDS, Resource, parse
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction, failure

_display = Display()


class ReconcileAction(BcmAction):
    """What lxd_apply and the modules of a single resource share."""

    LXD = True

    def apply(self, resources: Sequence[Resource]) -> dict[str, t.Any]:
        try:
            outcome = reconcile(self.client, resources, check=self.check_mode, progress=_tell)
        except ApplyError as error:
            return {**_result_of(error.outcome), **failure(error, changed=bool(error.outcome.changes))}
        return _result_of(outcome)


class ResourceAction(ReconcileAction):
    """One resource: set ``KIND``."""

    KIND: t.ClassVar[str]

    @classmethod
    def argument_spec(cls) -> dict[str, t.Any]:
        return {**super().argument_spec(), **KINDS[cls.KIND].argument_spec()}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        item = {key: params[key] for key in KINDS[self.KIND].argument_spec() if params.get(key) is not None}
        item["kind"] = self.KIND
        result = self.apply([parse(item, project=params["project"], target=params["target"])])
        changes, resources, _left = (result.pop(key) for key in ("changes", "resources", "left"))
        return {**result, "actions": [c["action"] for c in changes], "resource": next(iter(resources.values()))}


def _result_of(outcome: Outcome) -> dict[str, t.Any]:
    left = [f"{label} is left alone, since it does not bear our marks" for label in outcome.left]
    return {
        **({"warnings": left} if left else {}),
        "left": outcome.left,
        "changed": bool(outcome.changes),
        "diff": outcome.diff,
        "changes": outcome.changes,
        "resources": outcome.resources,
    }


def _tell(resource: Resource, step: Step) -> None:
    _display.v(harmless(f"{step.action} {resource.label}"))
