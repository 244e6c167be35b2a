# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that an event that it writes is acknowledged."""

import subprocess

from bcm_guest.prove import Fault, Report, Stack, prove


def look(stack: Stack) -> Report:
    command = ["python3", "/root/events.py", "write", "gazette.issue", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    lines = done.stdout.split()
    if done.returncode or not lines or not all(map(str.isdigit, lines)):
        raise Fault(f"{done.stdout}{done.stderr}"[-300:])
    return Report({"events": len(lines)})


prove(look)
