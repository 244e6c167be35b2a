# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Say what `bcm lightning restore` finds on the volumes: whether there is a node, and its replica with the channels."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bcm_guest.clightning import Database, become
from bcm_guest.prove import Fault

_OWN, _SECOND = Path("/var/lib/clightning"), Path("/var/lib/clightning-backup")
_SEEN = Path("/var/lib/bcm/clightning/data-version")


def look(request: dict[str, Any]) -> dict[str, Any]:
    """The node's key, as the secrets have it, is in the request."""
    seen = int(_SEEN.read_text(encoding="ascii")) if _SEEN.exists() else 0
    become("clightning")
    replica, channels, fault = _SECOND / "lightningd.sqlite3", {}, None
    if replica.exists():
        try:
            channels = Database(replica).channels(request["node"], seen)
        except Fault as error:
            fault = str(error)
    return {
        "has_database": any(_OWN.glob("*/lightningd.sqlite3")),
        "is_restoring": any(_OWN.glob("*/restoring")),
        "has_replica": replica.exists(),
        "fault": fault,
        "channels": channels,
        "has_backup": (_SECOND / "emergency.recover").exists(),
    }


json.dump(look(json.load(sys.stdin)), sys.stdout)
