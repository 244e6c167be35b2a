# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: prove that tor is what it should be, and that it uses the network if and only if it should."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from typing import Any

ASKED = ("GETINFO status/bootstrap-phase", "GETINFO fingerprint", "GETINFO status/reachability-succeeded/or")


def control(settings: list[str]) -> dict[str, str]:
    """What tor says of itself (control-spec, sections 3.3, 3.5 and 3.9); a client has no answer to some of it."""
    with open("/run/tor/control.cookie", "rb") as file:
        cookie = file.read().hex()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect("/run/tor/control")
        lines = (f"AUTHENTICATE {cookie}", *ASKED, f"GETCONF {' '.join(settings)}", "QUIT")
        connection.sendall("".join(f"{line}\r\n" for line in lines).encode())
        answer = connection.makefile().read()
    return dict(re.findall(r"^250[- ]([^=\n]+)=(.*?)\r?$", answer, re.M))


def answers(address: str, port: int, socks: bool) -> bool:
    """Whether somebody listens, and as a SOCKS proxy answers the greeting of RFC 1928, section 3."""
    try:
        with socket.create_connection((address, port), 5) as connection:
            if not socks:
                return True
            connection.sendall(b"\x05\x01\x00")
            return connection.recv(2) == b"\x05\x00"
    except OSError:
        return False


def fault(expected: dict[str, Any], said: dict[str, str]) -> str | None:
    for key, value in expected["settings"].items():
        if said.get(key) != value:
            return f"{key} is {said.get(key)} instead of {value}"
    if expected["fingerprint"] and said.get("fingerprint") != expected["fingerprint"]:
        return f"its fingerprint is {said.get('fingerprint')}, that of the controller's keys {expected['fingerprint']}"
    address, port = expected["listen"]
    # With DisableNetwork tor opens its control socket alone.
    if answers(address, int(port), expected["socks"]) != expected["network"]:
        what = f"its {'SOCKS ' * expected['socks']}port {address}:{port}"
        return f"{what} {'is closed' if expected['network'] else 'is open, but its network is off'}"
    if expected["network"] and "PROGRESS=100" not in said.get("status/bootstrap-phase", ""):
        return (
            f"it has not reached the Tor network: {said.get('status/bootstrap-phase')}; see that the host's clock is "
            "right and that a firewall lets it out, or give it a bridge (tor_bridges)"
        )
    return None


def main() -> None:
    expected = json.load(sys.stdin)
    expected["settings"]["DisableNetwork"] = "0" if expected["network"] else "1"
    deadline = time.monotonic() + expected["deadline"]
    while True:
        said: dict[str, str] = {}
        try:
            said = control(list(expected["settings"]))
            found = fault(expected, said)
        except OSError as error:
            found = f"its control socket does not answer: {error}"
        if found is None:
            break
        if time.monotonic() > deadline:
            sys.exit(f"{expected['name']}: {found}")
        time.sleep(0.2)
    notes, warnings = [f"network {'on' if expected['network'] else 'off'}"], []
    if expected["fingerprint"]:
        notes.append(f"fingerprint {said['fingerprint']}")
        if expected["network"] and said.get("status/reachability-succeeded/or") != "1":
            where = "{address}:{port}".format(**expected["host_port"])
            warnings.append(f"nobody has reached it yet; see that firewall and router let through what is for {where}")
    print(json.dumps({"notes": notes, "warnings": warnings}))


main()
