# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings of hypothesis."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# The same examples on every machine, and no folder of its own in the repository.
settings.register_profile("bcm", database=None, derandomize=True, deadline=None)
# Other examples in each run, for who has time: see CONTRIBUTING.md.
_OTHERS = {"derandomize": False, "suppress_health_check": list(HealthCheck)}
settings.register_profile("long", settings.get_profile("bcm"), **_OTHERS)  # type: ignore[arg-type]
settings.load_profile("long" if "BCM_FUZZ" in os.environ else "bcm")
