# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a tor carries, and whether its onion services answer from outside: asked of itself, where it runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .._base.errors import BcmError
from .._guest import tor_control, tor_status
from .deploy import Host, run_program
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
# Runs modules of the folder _guest as a package, in a Python that has only them; the last one answers.
_LOADER = """
import json, sys, types
request = json.load(sys.stdin)
package = sys.modules["guest"] = types.ModuleType("guest")
package.__path__ = []
for name, text in request.pop("sources").items():
    module = types.ModuleType(f"guest.{name}")
    module.__package__ = "guest"
    sys.modules[f"guest.{name}"] = module
    setattr(package, name, module)
    exec(compile(text, name, "exec"), module.__dict__)
json.dump(module.main(request), sys.stdout)
"""


def observe_tor(
    host: Host, socks: tuple[str, int], services: Iterable[Service], *, layout: Layout = LAYOUT
) -> dict[str, Any]:
    """What tor in a host says, and what became of its onion services; ``socks`` is where it is a proxy.

    A service with clients is tried without a key, and then with that of one of them, which tor has for that moment.
    """
    request = {
        "sources": {
            module.__name__.rpartition(".")[2]: Path(str(module.__file__)).read_text(encoding="utf-8")
            for module in (tor_control, tor_status)
        },
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
    answer = run_program(host, _LOADER, request, _SHAPE, _SOON + 2 * tor_status.CONNECT)
    if "error" in answer:
        raise BcmError(
            f"In instance {host.name} {answer['error']}",
            remedy="see with systemctl status tor whether it runs",
            code="service_failed",
            about=f"tor in instance {host.name}",
        )
    return answer
