# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options with which images are made. The documentation fragment bcm.core.image says the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What the names of images depend on: all that the plan has to know.
IMAGE_NAMING_SPEC: dict[str, dict[str, Any]] = {
    "image_snapshot": {"type": "str"},
    "image_sources": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "suite": {"type": "str", "required": True},
            "components": {"type": "list", "elements": "str", "default": ["main"]},
            "mirror": {"type": "str"},
            "keyring": {"type": "path", "no_log": False},
        },
    },
    "image_keyring": {"type": "path", "no_log": False},
}

IMAGE_ARGUMENT_SPEC: dict[str, dict[str, Any]] = {
    **IMAGE_NAMING_SPEC,
    "image_mirror": {"type": "str"},
    "image_security_mirror": {"type": "str"},
    "image_apt_options": {"type": "list", "elements": "str", "default": []},
    "image_ca_certificates": {"type": "list", "elements": "path"},
}


def image_settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """The image_* options among the parameters of an action."""
    return {name: params[name] for name in IMAGE_ARGUMENT_SPEC}
