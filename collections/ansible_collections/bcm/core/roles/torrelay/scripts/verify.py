# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the relay has the identity of this data center, and is neither exit nor bridge nor client."""

from __future__ import annotations

from bcm_guest.prove import Fault, Report, Stack, prove
from bcm_guest.tor_state import state

REACHED = "status/reachability-succeeded/or"
SETTINGS = {
    "ExitRelay": "0",
    "ExitPolicy": "reject *:*",
    "BridgeRelay": "0",
    "SocksPort": "0",
    "HiddenServiceDir": None,  # It has no onion service.
}


def look(stack: Stack) -> Report:
    network, fingerprint = stack.expected["network"], stack.expected["fingerprint"]
    found = state(SETTINGS, network, stack.service("or"), asked=("fingerprint", REACHED))
    if found["fingerprint"] != fingerprint:
        raise Fault(f"its fingerprint is {found['fingerprint']}, that of the controller's keys {fingerprint}")
    notes, warnings = [f"network {'on' if network else 'off'}", f"fingerprint {fingerprint}"], []
    if network and found[REACHED] != "1":
        where = "{address}:{port}".format(**stack.bcm["services"]["or"]["host_port"])
        warnings.append(f"no connection has reached it yet; check that firewall and router forward {where}")
    return Report({"network": network, "fingerprint": fingerprint}, notes, warnings)


prove(look)
