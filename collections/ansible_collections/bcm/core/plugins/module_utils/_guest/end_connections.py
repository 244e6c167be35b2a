# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: end the connections that no rule of the plan allows.

An access list decides on the first packet of a connection; all others pass, also after its rule is gone. When the
kernel ends a connection, its reset has the host forget it, too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import astuple
from typing import Any

from .connections import Connection, connections, is_allowed

_PATIENCE = 5.0  # seconds; it takes milliseconds


def _kill(connection: Connection) -> None:
    protocol, own, port, other, far_port = astuple(connection)
    near, far = (f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
                 for address, number in ((own, port), (other, far_port)))  # fmt: skip
    # It exits with 0 in any case.
    argv = ["ss", "--kill", "--no-header", f"--{protocol}", "src", near, "and", "dst", far]
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def main(expected: dict[str, Any]) -> dict[str, Any]:
    def left() -> list[Connection]:
        return [item for item in connections() if not is_allowed(item, expected["rules"], expected["gateways"])]

    found = left()
    end = time.monotonic() + _PATIENCE
    while remaining := left():
        if time.monotonic() > end:
            raise SystemExit(
                f"connections: the kernel does not end {', '.join(map(str, remaining))}, which no rule allows any "
                "more: restart the instance (bcm stack restart)"
            )
        for connection in remaining:
            _kill(connection)
        time.sleep(0.05)
    return {"ended": sorted(map(str, found))}


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
