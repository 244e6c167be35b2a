# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kafka_prepare.py CONFIG FOLDER: make the files of the broker if there are none, before it starts."""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

from bcm_guest.kafka import run_java
from bcm_guest.prove import Fault


def prepare(config: str, folder: Path) -> None:
    """Make the files. Raises Fault."""
    if not (folder / "meta.properties").exists():
        # What does not begin with a hyphen is no option.
        name = "A" + base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")[1:]
        run_java("kafka.tools.StorageTool", "format", "--standalone", "-t", name, "-c", config)


if __name__ == "__main__":
    try:
        prepare(sys.argv[1], Path(sys.argv[2]))
    except Fault as fault:
        raise SystemExit(f"the files of the broker cannot be made: {fault}") from fault
