# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the plan of a data center: reads the catalogue and the endpoint, changes nothing."""

from __future__ import annotations

import typing as t

from ansible.utils.display import Display

from ansible_collections.bcm.core.plugins.module_utils._artifact.artifact_settings import ARTIFACT_SPEC, artifacts
from ansible_collections.bcm.core.plugins.module_utils._datacenter.project_state import (
    image_namer,
    out_of_reach,
    read_project_state,
)
from ansible_collections.bcm.core.plugins.module_utils._image.image_settings import IMAGE_NAMING_SPEC
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.model import plain
from ansible_collections.bcm.core.plugins.module_utils._plan.outline import outline
from ansible_collections.bcm.core.plugins.module_utils._plan.plan import Planner
from ansible_collections.bcm.core.plugins.module_utils._plan.request import STATES, Request
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction
from ansible_collections.bcm.core.plugins.plugin_utils.inventory_places import find_places
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables

_REQUEST_FIELDS = (
    "datacenter",
    "chain",
    "state",
    "delete_data",
    "move_volumes",
    "confirmed_volumes",
    "identity",
    "storage_pool",
    "host",
    "endpoint",
    "subnet",
    "ca_provider",
    "software_ca_chains",
    "allow_below_floor",
    "exceptions",
    "access",
    "downloads_through_tor",
)


class ActionModule(BcmAction):
    LXD = True
    LXD_WITHOUT = ("project", "target")
    ARGUMENT_SPEC = {
        **IMAGE_NAMING_SPEC,
        **{name: ARTIFACT_SPEC[name] for name in ("artifact_source", "artifact_proxy")},
        "stacks": {"type": "list", "elements": "str", "required": True},
        "datacenter": {"type": "str", "required": True},
        "chain": {"type": "str", "required": True},
        "state": {"type": "str", "choices": list(STATES), "default": "present"},
        "delete_data": {"type": "bool", "default": False},
        "move_volumes": {"type": "bool", "default": False},
        "identity": {"type": "str"},
        "confirmed_volumes": {"type": "list", "elements": "str"},
        "storage_pool": {"type": "str", "default": "default"},
        "host": {"type": "str"},
        "subnet": {"type": "str"},
        "ca_provider": {"type": "str", "choices": ["software", "trezor"]},
        "software_ca_chains": {"type": "list", "elements": "str", "default": []},
        "allow_below_floor": {"type": "list", "elements": "str", "default": []},
        "exceptions": {"type": "list", "elements": "dict", "default": []},
        "access": {"type": "dict", "default": {}},
        "downloads_through_tor": {"type": "bool"},
        "stack_path": {"type": "list", "elements": "path", "default": []},
        "variables": {"type": "dict", "default": {}},
    }

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        catalogue = Catalogue.read(params["stack_path"])
        request = Request(
            stacks=[name for name in params["stacks"] if name],
            **{field: params[field] for field in _REQUEST_FIELDS},
        )
        bcm = {"datacenter": request.datacenter, "chain": request.chain}
        variables = {**task_vars, **params["variables"], "bcm": bcm}
        places = find_places(self._loader, task_vars.get("hostvars"), catalogue)
        planner = Planner(
            catalogue, request, lambda stacks: RoleVariables(self._templar, self._loader, stacks, variables, places)
        )
        ways = artifacts(params, request.chain, Display().display)
        plan = planner.plan(
            lambda site: read_project_state(self.client, site), image_namer(params), out_of_reach(self.client, ways)
        )
        found = plain(plan)
        return {"plan": found, "outline": outline(found), "warnings": list(plan.warnings)}
