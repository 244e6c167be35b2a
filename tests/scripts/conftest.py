# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of roles find the package bcm_guest, as in an instance."""

from __future__ import annotations

import importlib
import sys

sys.modules["bcm_guest"] = importlib.import_module("ansible_collections.bcm.core.plugins.module_utils._guest")
