# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that each target has the newest copies, or say why not."""

from __future__ import annotations

import hashlib
import json
import subprocess

from bcm_guest import copies
from bcm_guest.prove import Fault, Report, Stack, Waiting, prove


def look(stack: Stack) -> Report:
    unit = subprocess.run(["systemctl", "is-active", "backups"], capture_output=True, text=True, check=False)
    if unit.stdout.strip() != "active":
        raise Fault(f"its unit is {unit.stdout.strip()}")
    try:
        state = json.loads(copies.STATE.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Fault(f"it has not written {copies.STATE} yet: {error}") from error
    if state["targets"].keys() != set(stack.expected["remote"]):
        raise Fault("it has not read its targets yet")
    warnings = [] if stack.expected["targets"] else ["no target is set, so there are no copies: set backups_targets"]
    notes, facts, made = [], {}, []
    for name in stack.expected["sources"]:
        source = state["sources"].get(name, {})
        if source.get("fault"):
            raise Fault(f"{name} cannot be asked for its channel backup: {source['fault']}")
        if source.get("waits") and not source.get("copy"):
            warnings.append(f"{name} has nothing to copy yet: {source['waits']}; it is copied once it works")
            continue
        if not source.get("copy"):
            raise Fault(f"it has no copy of the channel backup of {name} yet")
        facts[name] = source["copy"]
        made.append({"of": f"Channels of {name}", "at": "in this data center", "made": source["created"]})
        notes.append(f"{name}: {len(source['points'])} channels, copied {source['created']}")
    busy = []
    for name, target in state["targets"].items():
        made += [
            {"of": f"Channels of {stack}", "at": f"at {name}", "made": copy["time"]}
            for stack, copy in sorted(target["delivered"].items())
        ]
        behind = [stack for stack, copy in facts.items() if target["delivered"].get(stack, {}).get("copy") != copy]
        if target["fault"]:
            what = f"lacks the newest copy of {', '.join(behind)}" if behind else "has the newest copies"
            warnings.append(f"target {name} {what}, and cannot be reached: {target['fault']}; it is tried again")
        elif behind or not target["tried"]:
            busy.append(f"target {name} has not answered yet")
    newest = {name: hashlib.sha256((copies.COPIES / name).read_bytes()).hexdigest() for name in facts.values()}
    report = Report({"newest": newest, "backups": made} if facts else {}, notes, warnings)
    if busy:
        # A circuit of Tor takes as long as it takes.
        raise Waiting(f"{'; '.join(busy)}: `bcm backup status` says when all have the newest copies", report)
    return report


prove(look)
