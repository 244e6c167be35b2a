# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print a new address of the node's wallet: `bcm lightning fund`."""

from __future__ import annotations

import json
import subprocess
import sys

done = subprocess.run(["lightning-cli", "newaddr", "p2tr"], capture_output=True, text=True, timeout=60, check=False)
if done.returncode:
    raise SystemExit(f"clightning: {done.stderr.strip() or done.stdout.strip()}")
json.dump({"address": json.loads(done.stdout)["p2tr"]}, sys.stdout)
