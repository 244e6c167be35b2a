# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images: brings them to the endpoint, starts and publishes their builders, prunes and lists them."""

from __future__ import annotations

import typing as t

from ansible.utils.display import Display

from ansible_collections.bcm.core.plugins.module_utils._image.cache import Cache
from ansible_collections.bcm.core.plugins.module_utils._image.image_settings import IMAGE_ARGUMENT_SPEC, image_settings
from ansible_collections.bcm.core.plugins.module_utils._image.images import Images
from ansible_collections.bcm.core.plugins.plugin_utils._action import BcmAction


class ActionModule(BcmAction):
    LXD = True
    ARGUMENT_SPEC = {
        **IMAGE_ARGUMENT_SPEC,
        "state": {
            "type": "str",
            "choices": ["present", "building", "published", "pruned", "listed"],
            "default": "present",
        },
        "images": {"type": "list", "elements": "dict", "default": []},
        "image": {"type": "dict"},
        "base": {"type": "bool", "default": False},
        "network": {"type": "str"},
        "storage_pool": {"type": "str", "default": "default"},
        "cache_path": {"type": "path"},
        "older_than": {"type": "float", "default": 30.0},
    }
    CONSTRAINTS = {"required_if": [("state", "building", ("image", "network")), ("state", "published", ("image",))]}

    def perform(self, params: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        images = Images(self.client, Cache(params["cache_path"]), image_settings(params), Display().display)
        state, image = params["state"], params["image"]
        if state == "present":
            return images.present(params["images"], with_base=params["base"], check=self.check_mode)
        if state == "listed":
            return {"images": images.list()}
        if state == "pruned":
            return images.prune(params["images"], params["older_than"], check=self.check_mode)
        if self.check_mode:
            return {"changed": True}
        if state == "published":
            return images.publish(image)
        builder = images.build(image, params["network"], params["storage_pool"], params["target"])
        return {"changed": True, "builder": builder}
