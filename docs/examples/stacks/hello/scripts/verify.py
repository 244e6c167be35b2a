# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the page says how high the chain is."""

from __future__ import annotations

from bcm_guest.prove import Fault, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    _status, text = http_request(stack.service("http"))
    if not text.startswith(stack.expected["greeting"]):
        raise Fault(f"the page says {text.strip()}")
    return Report(notes=[text.strip()])


prove(look)
