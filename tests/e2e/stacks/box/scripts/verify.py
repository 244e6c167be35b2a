# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that both servers listen."""

from bcm_guest.prove import Report, Stack, prove


def look(stack: Stack) -> Report:
    for name in ("ssh", "store"):
        stack.service(name).connect().close()
    return Report()


prove(look)
