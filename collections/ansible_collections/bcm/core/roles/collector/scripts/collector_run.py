# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""collector_run.py: write events of runs of `bcm`, which it reads from its standard input; print how many were new."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bcm_guest.prove import Fault
from collector_topic import Broker, Lost, Topic, end_with, now, read_settings

#: from when they are sent until they are read here, or so
_PRECISION = timedelta(seconds=10)
#: seconds that the broker has
_PATIENCE = 20
#: events that may be sent again, if nobody heard that they were written
_KNOWN = 1000
#: fields with a time
_MOMENTS = ("made", "not_after")


def write_events(broker: Broker, sent: Mapping[str, Any]) -> int:
    """Write the events that the broker does not have, until it has acknowledged them. Raises Fault and Lost."""
    # What the clock here is ahead of that of the sender.
    ahead = now() - datetime.fromisoformat(sent["now"])
    names = dict.fromkeys(event["topic"] for event in sent["events"])
    topics = {name: Topic(name, broker, "collector") for name in names}
    # All before the first one is written: of a topic that comes to a connection later, the client asks a second later.
    there = {name: topic.newest_ones(_KNOWN) for name, topic in topics.items()}
    written = 0
    for event in sent["events"]:
        name, body = event["topic"], event["body"]
        body = {key: datetime.fromisoformat(value) if key in _MOMENTS else value for key, value in body.items()}
        if any({**known, "event": None} == {**body, "event": None} for known in there[name]):
            continue
        topics[name].write(
            event["key"], body, sent["version"], datetime.fromisoformat(event["time"]) + ahead, _PRECISION
        )
        written += 1
    broker.flush(_PATIENCE)
    return written


if __name__ == "__main__":
    broker = Broker(read_settings("collector"))
    try:
        end_with(str(write_events(broker, json.load(sys.stdin))))
    except (Fault, Lost) as fault:
        raise SystemExit(str(fault)) from fault
