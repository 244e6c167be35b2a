# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the page is there."""

from bcm_guest.prove import Fault, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    status, page = http_request(stack.service("http"), path="/")
    if status != 200 or "Behind the door" not in page:
        raise Fault(f"it answers with {status}: {page}")
    return Report()


prove(look)
