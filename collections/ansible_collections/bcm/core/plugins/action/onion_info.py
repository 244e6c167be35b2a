# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action of the module bcm.core.onion_info."""

from __future__ import annotations

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from ansible_collections.bcm.core.plugins.module_utils._tor.deploy import read_published
from ansible_collections.bcm.core.plugins.module_utils._tor.services_file import ServicesFile
from ansible_collections.bcm.core.plugins.plugin_utils._onion_options import OnionAction


class ActionModule(OnionAction):
    def work(self, store: ServicesFile, params: dict[str, t.Any]) -> dict[str, t.Any]:
        services = store.read()
        with FileSession(self.client, params["instance"]) as session:
            there = read_published(session)
        return {
            "services": [
                {
                    "name": name,
                    "address": service.key.address,
                    "ports": [{"port": port, "targets": list(to)} for port, to in sorted(service.ports.items())],
                    "authorization": service.authorization,
                    "clients": sorted(service.clients),
                    "pow": service.pow,
                    "intro_defense": service.intro_defense,
                    "max_streams": service.max_streams,
                    "parked": service.parked,
                    "published": there.network and there.services.get(name) == service.digest,
                }
                for name, service in sorted(services.items())
            ],
            "path": str(store.path),
        }
