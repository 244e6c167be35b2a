# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a restore without a replica, have the other nodes close the channels of the channel backups."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bcm_guest.clightning import Lightningd, become
from bcm_guest.prove import Fault

_INTERVAL = 0.5  # seconds


def recover(lightningd: Lightningd, end: float) -> None:
    """Ask until lightningd is started. Raises Fault."""
    while True:
        try:
            lightningd.call("emergencyrecover")
            return
        except Fault:
            if time.monotonic() > end:
                raise
        time.sleep(_INTERVAL)


def recover_all(directory: Path, deadline: float) -> bool:
    """Have all channels closed that are not yet, and return whether there was a restore to finish. Raises Fault."""
    lightningd, end = Lightningd(str(directory)), time.monotonic() + deadline
    target, changed = directory / "emergency.recover", False
    # The second says that something is to be restored, and goes last.
    for path in (directory / "restoring-copy", directory / "restoring"):
        if not path.exists():
            continue
        changed = True
        if content := path.read_bytes():
            fresh = directory / "emergency.recover.new"
            fresh.write_bytes(content)
            fresh.replace(target)
            recover(lightningd, end)
        path.unlink()
    return changed


def main() -> None:
    request = json.load(sys.stdin)
    become(request["bcm"]["user"])
    try:
        changed = recover_all(Path(request["expected"]["directory"]), request["deadline"])
    except (Fault, OSError) as fault:
        raise SystemExit(f"clightning: {fault}") from fault
    json.dump({"changed": changed}, sys.stdout)


if __name__ == "__main__":
    main()
