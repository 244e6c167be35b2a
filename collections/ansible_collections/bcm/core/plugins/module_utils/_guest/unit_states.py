# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in an instance, as root: reads the states of its stack's units. Standard library only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_STAMPS = Path("/var/lib/bcm/units")


def unit_states() -> dict[str, str]:
    """Return the state of each unit of the stack; "window" if its window replaces it."""
    units = [path.name.removesuffix(".digest") for path in sorted(_STAMPS.glob("*.digest"))]
    windows = [f"{unit}-window" for unit in units]
    if not units:
        return {}
    # The exit status tells nothing: it is another one if one of them is not active.
    done = subprocess.run(["systemctl", "is-active", *units, *windows], capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if len(words) != 2 * len(units):
        raise SystemExit(f"systemctl does not say the states of units: {done.stderr.strip() or done.stdout.strip()}")
    states = dict(zip([*units, *windows], words, strict=True))
    return {
        unit: "window" if (states[unit], states[window]) == ("inactive", "active") else states[unit]
        for unit, window in zip(units, windows, strict=True)
    }


if __name__ == "__main__":
    json.dump({"units": unit_states()}, sys.stdout)
