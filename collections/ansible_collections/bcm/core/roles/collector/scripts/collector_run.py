# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""collector_run.py: write that a run of the data center has ended. It reads what to write from its standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from bcm_guest.prove import Fault
from collector_topic import Broker, Lost, Topic, now

_SETTINGS = Path("/etc/collector/collector.json")
#: a run sends its report within this time, or so
_PRECISION = timedelta(seconds=10)
#: seconds that the broker has
_PATIENCE = 20


def write_run(settings: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    """Write the event, until the broker has acknowledged it. Raises Fault and Lost."""
    broker = Broker(settings)
    topic = Topic("collector.run", broker, "collector")
    topic.newest()
    topic.write("run", body, "", now(), _PRECISION)
    broker.flush(_PATIENCE)


if __name__ == "__main__":
    try:
        write_run(json.loads(_SETTINGS.read_text()), json.load(sys.stdin))
    except (Fault, Lost) as fault:
        raise SystemExit(str(fault)) from fault
