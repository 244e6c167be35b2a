# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: prove that tor answers, and that it uses the network if and only if it should."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from typing import Any


def control() -> dict[str, str]:
    """What tor says of itself (control-spec, sections 3.3, 3.5 and 3.9)."""
    with open("/run/tor/control.cookie", "rb") as file:
        cookie = file.read().hex()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect("/run/tor/control")
        connection.sendall(
            f"AUTHENTICATE {cookie}\r\nGETINFO status/bootstrap-phase\r\nGETCONF DisableNetwork\r\nQUIT\r\n".encode()
        )
        answer = connection.makefile().read()
    return dict(re.findall(r"^250[- ]([^=\n]+)=(.*?)\r?$", answer, re.M))


def socks(address: str, port: int) -> bool:
    """Whether a SOCKS proxy answers the greeting of RFC 1928, section 3."""
    try:
        with socket.create_connection((address, port), 5) as connection:
            connection.sendall(b"\x05\x01\x00")
            return connection.recv(2) == b"\x05\x00"
    except OSError:
        return False


def fault(expected: dict[str, Any], said: dict[str, str]) -> str | None:
    address, port = expected["socks"]
    listening = socks(address, int(port))
    if said.get("DisableNetwork") != ("0" if expected["network"] else "1"):
        return f"DisableNetwork is {said.get('DisableNetwork')}"
    if not expected["network"]:
        # With DisableNetwork tor opens its control socket alone.
        return "it listens for SOCKS although its network is disabled" if listening else None
    if not listening:
        return f"no SOCKS proxy answers at {address}:{port}"
    if "PROGRESS=100" not in said.get("status/bootstrap-phase", ""):
        return (
            f"it has not reached the Tor network: {said.get('status/bootstrap-phase')}; see that the host's clock is "
            "right and that a firewall lets it out, or give it a bridge (tor_bridges)"
        )
    return None


def main() -> None:
    expected = json.load(sys.stdin)
    deadline = time.monotonic() + expected["deadline"]
    while True:
        said: dict[str, str] = {}
        try:
            said = control()
            found = fault(expected, said)
        except OSError as error:
            found = f"its control socket does not answer: {error}"
        if found is None:
            break
        if time.monotonic() > deadline:
            sys.exit(f"tor: {found}")
        time.sleep(0.2)
    network = "on" if expected["network"] else "off"
    print(json.dumps({"notes": [f"network {network}"], "warnings": []}))


main()
