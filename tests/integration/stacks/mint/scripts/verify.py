# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that mint lets nobody in without a token."""

from bcm_guest.prove import Fault, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    status, _text = http_request(stack.service("rest"), headers={"Token": "guessed"})
    if status != 401:
        raise Fault(f"it answers a guess with status {status}")
    return Report()


prove(look)
