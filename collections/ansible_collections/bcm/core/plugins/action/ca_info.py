# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Returns what the authority of a data center has issued."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.report import authority_report
from ansible_collections.bcm.core.plugins.plugin_utils._ca_options import CaAction


class ActionModule(CaAction):
    PRIVATE = False

    def work(self, authority: Authority, params: dict[str, t.Any]) -> dict[str, t.Any]:
        return {**authority_report(authority.read_database(), authority.now), "path": str(authority.files.public)}
