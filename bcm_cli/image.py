# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm image`: the images at the endpoint and in the disk cache."""

from __future__ import annotations

import argparse
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.text import amount
from ansible_collections.bcm.core.plugins.module_utils._image.cache import Cache
from ansible_collections.bcm.core.plugins.module_utils._image.image_settings import IMAGE_ARGUMENT_SPEC
from ansible_collections.bcm.core.plugins.module_utils._image.images import Images
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client

from . import setup
from .connect import connect
from .datacenter import DataCenter
from .output import answer


def show(args: argparse.Namespace) -> int:
    with connect(args.datacenter) as client:
        found = of(args.datacenter, client).list()
    if args.json:
        return answer(found, True)
    rows: list[dict[str, Any]] = [
        {
            "image": f"bcm/{image['stack']}/{image['hash'][:12]}",
            "version": image["version"],
            "endpoint": amount(image["endpoint_size"]),
            "disk": amount(image["cache_size"]),
            "used by": image["used_by"],
        }
        for image in found
    ]
    return answer(rows, False)


def prune(args: argparse.Namespace) -> int:
    with connect(args.datacenter) as client:
        args.datacenter.claim(client)
        # All data centers of an endpoint share its images.
        args.datacenter.refuse_other_runs(client, everywhere=True)
        gone = of(args.datacenter, client).prune([], args.older_than)
    return answer(gone if args.json else {**gone, "freed": amount(gone["freed"]) or "nothing"}, args.json)


def of(datacenter: DataCenter, client: Client) -> Images:
    """Return the images, with the settings of a data center."""
    spec = IMAGE_ARGUMENT_SPEC
    settings = {name: datacenter.variable(f"bcm_{name}", option.get("default")) for name, option in spec.items()}
    return Images(client, Cache(), settings, setup.step)
