# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""joinmarket_open.py ADDRESS PORT OFFER: open the wallet once the daemon answers, and have it offer what is in a file.

If there is no wallet yet, there is nothing to open: the run that starts the unit makes it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from bcm_guest.joinmarket import Joinmarket
from bcm_guest.prove import Endpoint, Fault

_DEADLINE = 90.0  # seconds


def main(address: str, port: str, offer: str) -> None:
    password = Path(os.environ["CREDENTIALS_DIRECTORY"], "wallet-password").read_text(encoding="utf-8")
    joinmarket = Joinmarket(Endpoint(address, int(port)), password)
    try:
        joinmarket.wait(time.monotonic() + _DEADLINE)
        if joinmarket.has_wallet():
            token = joinmarket.unlock()
            joinmarket.offer(token, json.loads(Path(offer).read_text(encoding="utf-8"))["offer"])
    except Fault as fault:
        sys.exit(f"joinmarket: {fault}")


if __name__ == "__main__":
    main(*sys.argv[1:])
