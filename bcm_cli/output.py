# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers on stdout: for people, or in JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.bcm.core.plugins.plugin_utils._text import report, table


def answer(facts: Mapping[str, Any] | Sequence[Mapping[str, Any]], as_json: bool) -> int:
    """Print a mapping, or rows of a table; the exit status."""
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        for line in report(facts) if isinstance(facts, Mapping) else table(facts) or ["none"]:
            print(line)
    return 0
