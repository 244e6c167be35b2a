# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance, before a program starts: wait until the services that it needs answer."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from bcm_guest.prove import Endpoint, Fault, Refused, json_rpc

_INTERVAL = 0.5  # seconds between two attempts
# A server that is still starting knows its users already.
_STARTING = 500


def fault_of(wanted: dict[str, Any]) -> str | None:
    """Why a service cannot be used yet."""
    place = Endpoint.of(wanted)
    try:
        if wanted["call"]:
            json_rpc(place, wanted["call"], credentials=wanted["credentials"])
        else:
            place.connect().close()
    except Refused as refused:
        return None if refused.status == _STARTING else str(refused)
    except (Fault, OSError) as fault:
        return str(fault)
    return None


def main() -> None:
    with open("/etc/bcm/wait.json", encoding="utf-8") as file:
        services = json.load(file)[sys.argv[1]]
    for name, wanted in services.items():
        shown = None
        while fault := fault_of(wanted):
            if fault != shown:
                sys.stdout.write(f"Waiting for {name}: {fault}\n")
                sys.stdout.flush()
            shown = fault
            time.sleep(_INTERVAL)


main()
