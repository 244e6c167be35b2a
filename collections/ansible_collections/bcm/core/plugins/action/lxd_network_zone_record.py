# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.lxd_network_zone_record."""

from __future__ import annotations

from ansible_collections.bcm.core.plugins.plugin_utils._resource_action import ResourceAction


class ActionModule(ResourceAction):
    KIND = "network_zone_record"
