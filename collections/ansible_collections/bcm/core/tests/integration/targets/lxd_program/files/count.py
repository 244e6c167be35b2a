# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in the instance: count what is below a folder."""

import json
import sys
from pathlib import Path

from bcm_guest.prove import Report

folder = Path(json.load(sys.stdin)["folder"])
if not folder.is_dir():
    sys.exit(f"{folder} is not a folder")
print(json.dumps(vars(Report({"count": len(list(folder.iterdir()))}))))
