# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: prove that the relay has its identity, and is neither exit nor bridge nor onion service."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from typing import Any

IS = {"ExitRelay": "0", "ExitPolicy": "reject *:*", "BridgeRelay": "0", "SocksPort": "0"}
ASKED = ("GETINFO fingerprint", "GETINFO status/bootstrap-phase", "GETINFO status/reachability-succeeded/or")


def control() -> dict[str, str]:
    """What tor says of itself (control-spec, sections 3.3, 3.5 and 3.9)."""
    with open("/run/tor/control.cookie", "rb") as file:
        cookie = file.read().hex()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect("/run/tor/control")
        lines = (f"AUTHENTICATE {cookie}", *ASKED, f"GETCONF DisableNetwork HiddenServiceDir {' '.join(IS)}", "QUIT")
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
        answer = connection.makefile().read()
    return dict(re.findall(r"^250[- ]([^=\n]+)=(.*?)\r?$", answer, re.M))


def listening(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), 5):
            return True
    except OSError:
        return False


def fault(expected: dict[str, Any], said: dict[str, str]) -> str | None:
    for key, value in {**IS, "DisableNetwork": "0" if expected["network"] else "1"}.items():
        if said.get(key) != value:
            return f"{key} is {said.get(key)} instead of {value}"
    if "HiddenServiceDir" in said:
        return "it has onion services"
    if said.get("fingerprint") != expected["fingerprint"]:
        return f"its fingerprint is {said.get('fingerprint')}, that of the controller's keys {expected['fingerprint']}"
    address, port = expected["listen"]
    if listening(address, int(port)) != expected["network"]:
        return f"its port {address}:{port} is {'closed' if expected['network'] else 'open although the network is off'}"
    if expected["network"] and "PROGRESS=100" not in said.get("status/bootstrap-phase", ""):
        return f"it has not reached the Tor network: {said.get('status/bootstrap-phase')}"
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
            sys.exit(f"torrelay: {found}")
        time.sleep(0.2)
    warnings = []
    if expected["network"] and said.get("status/reachability-succeeded/or") != "1":
        where = "{address}:{port}".format(**expected["published"])
        warnings.append(f"nobody has reached it yet; see that firewall and router let through what is for {where}")
    network = "on" if expected["network"] else "off"
    print(json.dumps({"notes": [f"network {network}", f"fingerprint {said['fingerprint']}"], "warnings": warnings}))


main()
