# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of roles find the package bcm_guest, as in an instance."""

from __future__ import annotations

import importlib
import pkgutil
import sys

_PACKAGE = importlib.import_module("ansible_collections.bcm.core.plugins.module_utils._guest")
sys.modules["bcm_guest"] = _PACKAGE
# Each library once: otherwise, what one raises is not what another one expects.
for _module in pkgutil.iter_modules(_PACKAGE.__path__):
    sys.modules[f"bcm_guest.{_module.name}"] = importlib.import_module(f"{_PACKAGE.__name__}.{_module.name}")
