# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: end the connections that no rule of the plan allows.

An access list decides on the first packet of a connection; all others pass, also after its rule is gone. When the
kernel ends a connection, its reset has the host forget it, too.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from typing import Any

from bcm_guest.connections import Connection, connections

# the resolver of the network, and its DHCP server
_OF_THE_NETWORK = (53, 67)
_PATIENCE = 5.0  # seconds; it takes milliseconds


def is_allowed(connection: Connection, rules: Iterable[Mapping[str, str]], gateways: Iterable[str]) -> bool:
    """Whether a rule allows it, in the direction in which it was made; which of the two is not known any more."""
    protocol, own, port, other, far_port = astuple(connection)
    if other in gateways and far_port in _OF_THE_NETWORK:
        return True
    return any(
        rule["protocol"] == protocol
        and (
            (_within(own, rule.get("source")) and _within(other, rule["destination"]) and _among(far_port, rule))
            or (_within(other, rule.get("source")) and _within(own, rule["destination"]) and _among(port, rule))
        )
        for rule in rules
    )


def _within(address: str, networks: str | None) -> bool:
    """Whether an address is in one of some networks, separated by commas; in any if there are none."""
    there = ipaddress.ip_address(address)
    return not networks or any(there in ipaddress.ip_network(network) for network in networks.split(","))


def _among(port: int, rule: Mapping[str, str]) -> bool:
    """Whether a port is among those of a rule, such as 1-52,54."""
    ends = [part.partition("-") for part in rule["destination_port"].split(",")]
    return any(int(first) <= port <= int(last or first) for first, _hyphen, last in ends)


def _kill(connection: Connection) -> None:
    protocol, own, port, other, far_port = astuple(connection)
    near, far = (f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
                 for address, number in ((own, port), (other, far_port)))  # fmt: skip
    # It exits with 0 in any case.
    argv = ["ss", "--kill", "--no-header", f"--{protocol}", "src", near, "and", "dst", far]
    subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def main() -> None:
    expected: dict[str, Any] = json.load(sys.stdin)

    def left() -> list[Connection]:
        return [item for item in connections() if not is_allowed(item, expected["rules"], expected["gateways"])]

    found = left()
    end = time.monotonic() + _PATIENCE
    while not expected["check"] and (remaining := left()):
        if time.monotonic() > end:
            sys.exit(
                f"connections: the kernel does not end {', '.join(map(str, remaining))}, which no rule allows any "
                "more: restart the instance (bcm stack restart)"
            )
        for connection in remaining:
            _kill(connection)
        time.sleep(0.05)
    print(json.dumps({"ended": sorted(map(str, found))}))


if __name__ == "__main__":
    main()
