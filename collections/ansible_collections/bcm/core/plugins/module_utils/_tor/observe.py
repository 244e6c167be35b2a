# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a tor carries, and whether its onion services answer from outside: asked of itself, where it runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._guest import tor_status
from .deploy import Host, ask_tor
from .services import LAYOUT, Layout, Service

_SOON = 60.0  # seconds for what waits for nothing
_SERVICE = {"service": str, "address": str, "authorization": bool, "state": str, "fault": (str, None)}
#: of the answer
_SHAPE = {
    **dict.fromkeys(("version", "phase", "bootstrap"), str),
    **dict.fromkeys(("read", "written", "circuits", "socks"), int),
    **dict.fromkeys(("guards", "faults"), [str]),
    "network": bool,
    "services": [_SERVICE],
}


def observe_tor(
    host: Host, socks: tuple[str, int], services: Iterable[Service], *, layout: Layout = LAYOUT
) -> dict[str, Any]:
    """What tor in a host says, and what became of its onion services; ``socks`` is where it is a proxy.

    A service with clients is tried without a key, and then with that of one of them, which tor has for that moment.
    """
    request = {
        "control": layout.control,
        "socks": list(socks),
        "services": [
            {
                "service": service.name,
                "address": service.key.address,
                "port": min(service.ports),
                "key": next((key.control_text for _name, key in sorted(service.clients.items())), None),
                "authorization": service.authorization,
            }
            for service in services
        ],
    }
    return ask_tor(host, "tor_status.py", request, _SHAPE, _SOON + 2 * tor_status.CONNECT)
