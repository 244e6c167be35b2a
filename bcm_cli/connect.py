# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of a data center's endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .datacenter import DataCenter
from .device_keys import for_endpoint

if TYPE_CHECKING:
    from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client


def connect(datacenter: DataCenter, project: str | None = None) -> Client:
    """Return a client of the data center's project, or of another; through an SSH agent if its endpoint needs one."""
    # what only reads the inventory need not load it
    from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client

    for_endpoint(datacenter)
    return Client(project=project or datacenter.project, **datacenter.connection)
