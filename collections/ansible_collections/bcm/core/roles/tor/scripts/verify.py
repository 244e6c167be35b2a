# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that tor answers on its control socket, and as a SOCKS proxy if and only if it uses the network."""

from __future__ import annotations

from bcm_guest.prove import Endpoint, Report, Stack, prove
from bcm_guest.tor_state import state


def look(stack: Stack) -> Report:
    network = stack.expected["network"]
    state({}, network, Endpoint(stack.bcm["address"], stack.service("socks").port), socks=True)
    return Report({"network": network}, [f"network {'on' if network else 'off'}"])


prove(look)
