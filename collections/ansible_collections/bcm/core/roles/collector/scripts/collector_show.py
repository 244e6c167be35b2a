# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""collector_show.py SOURCE...: print what verify looks at, as JSON.

That is what ``show`` of each source's program returns (``found``, by source), and how many events of all sources are
kept aside (``unfit``).
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bcm_guest.prove import Fault
from collector_topic import UNFIT, Broker, end_with, read_settings


def connect(each: Mapping[str, Mapping[str, Any]]) -> Broker:
    """One connection to the broker that knows the topics of one or more sources, by their settings."""
    schemas = {topic: known for settings in each.values() for topic, known in settings["schemas"].items()}
    return Broker({**next(iter(each.values())), "schemas": schemas})


def show(each: Mapping[str, Mapping[str, Any]], broker: Broker) -> dict[str, Any]:
    """What is printed of sources, by their settings. Raises Fault."""
    found = {
        source: importlib.import_module(f"collector_{source}").show(settings, broker)
        for source, settings in each.items()
    }
    return {"found": found, "unfit": broker.count(UNFIT)}


if __name__ == "__main__":
    of_each = {source: read_settings(source) for source in sys.argv[1:]}
    connection = connect(of_each)
    try:
        end_with(json.dumps(show(of_each, connection), default=datetime.isoformat))
    except Fault as fault:
        raise SystemExit(str(fault)) from fault
