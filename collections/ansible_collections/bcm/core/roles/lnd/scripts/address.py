# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print a new address of the node's wallet: `bcm lightning fund`. lnd makes none before it has followed the chain."""

from __future__ import annotations

import json
import subprocess
import sys
import time

_PATIENCE = 60.0  # seconds
_INTERVAL = 0.2  # seconds


def lncli(*words: str) -> str:
    """What a command prints; empty if it fails before lnd is at work."""
    done = subprocess.run(["lncli", *words], capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode else done.stdout


end = time.monotonic() + _PATIENCE
while "SERVER_ACTIVE" not in lncli("state") and time.monotonic() < end:
    time.sleep(_INTERVAL)
printed = lncli("newaddress", "p2tr")
if not printed:
    raise SystemExit(f"lnd: it makes no address: {lncli('state').strip() or 'it does not answer'}")
json.dump({"address": json.loads(printed)["address"]}, sys.stdout)
