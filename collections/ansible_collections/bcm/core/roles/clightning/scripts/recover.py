# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After a restore without a replica, have the other nodes close the channels of the channel backup."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bcm_guest.clightning import Lightningd
from bcm_guest.prove import Fault
from bcm_guest.volume_files import remove_file

_INTERVAL = 0.5  # seconds


def recover(lightningd: Lightningd, end: float) -> None:
    while True:
        try:
            lightningd.call("emergencyrecover")
            return
        except Fault:
            if time.monotonic() > end:
                raise
        time.sleep(_INTERVAL)


request = json.load(sys.stdin)
directory = request["expected"]["directory"]
restoring = Path(directory) / "restoring"
changed = restoring.exists()
if changed:
    try:
        recover(Lightningd(directory), time.monotonic() + request["deadline"])
    except Fault as fault:
        raise SystemExit(f"clightning: {fault}") from fault
    remove_file(restoring)
json.dump({"changed": changed}, sys.stdout)
