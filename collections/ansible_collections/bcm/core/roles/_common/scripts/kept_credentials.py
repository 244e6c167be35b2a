# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print the credentials that the stack was configured with, by their names; none if it never was."""

from __future__ import annotations

import sys
from pathlib import Path

try:
    content = Path("/etc/bcm/credentials.json").read_text(encoding="utf-8")
except FileNotFoundError:
    content = "{}"
sys.stdout.write(content)
