# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a rune for each consumer, with exactly the calls that it needs, and revoke those that nobody needs.

lightningd remembers its runes. Ours are those with a comment that names the consumer, which the rune's own signature
covers; runes that a person made are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bcm_guest.clightning import Lightningd
from bcm_guest.prove import Consumer, Credentials, Lasting, Stack, make_credentials

SERVICE = "rest"
#: Calls with which a consumer could give itself any other permission, reach the keys, or run programs. What
#: getemergencyrecoverdata answers is encrypted to the node.
POWERFUL = re.compile(
    r"(create|show|destroy|blacklist|invoke)rune|commando.*|plugin|setconfig|stop|graceful|exposesecret|makesecret"
    r"|recover|recoverchannel|emergencyrecover|staticbackup|reckless|dev.*|clnrest.*"
    r"|datastore|deldatastore|signpsbt|sendpsbt|addpsbtoutput"
)
_CALL = re.compile(r"[a-z][a-z0-9-]*")


def calls_of(consumer: str, needed: Mapping[str, Any]) -> list[str]:
    """What a consumer asks for, as names of calls. Raises Lasting."""
    found = needed.get("rune")
    if not isinstance(found, list) or not found or not all(isinstance(i, str) and _CALL.fullmatch(i) for i in found):
        raise Lasting(
            f"stack {consumer} uses it, but its meta/stack.yml does not say what it may do there: list the calls as "
            "needs.clightning.permissions.rune, such as [getinfo, invoice]"
        )
    if powerful := [item for item in found if POWERFUL.fullmatch(item)]:
        raise Lasting(f"stack {consumer} asks for {', '.join(powerful)}: it could give itself any other permission")
    return sorted(set(found))


def comment(consumer: str) -> str:
    return f"method#bcm {consumer}"


def restrictions(consumer: str, calls: list[str]) -> list[list[str]]:
    return [[f"method={call}" for call in calls], [comment(consumer)]]


def restrictions_of(rune: Mapping[str, Any]) -> list[list[str]]:
    """What a rune was made with."""
    return [
        [item["fieldname"] + item["condition"] + item["value"] for item in restriction["alternatives"]]
        for restriction in rune["restrictions"]
    ]


def is_ours(found: list[list[str]]) -> bool:
    return bool(found) and found[-1][0].startswith(comment(""))


def make(stack: Stack, consumers: Mapping[str, Consumer], check: bool) -> Credentials:
    lightningd = Lightningd(stack.expected["directory"])
    there = {
        rune["unique_id"]: (restrictions_of(rune), rune["rune"])
        for rune in lightningd.call("showrunes")["runes"]
        if not rune.get("blacklisted")
    }
    used, changed = set(), False
    credentials: dict[str, dict[str, str | None]] = {}
    for name, consumer in consumers.items():
        rune = None
        if SERVICE in consumer.services:
            wanted = restrictions(name, calls_of(name, consumer.permissions))
            known = [(number, text) for number, (found, text) in there.items() if found == wanted]
            if known:
                number, rune = known[0]
            else:
                changed = True
                if check:
                    continue
                made = lightningd.call("createrune", restrictions=wanted)
                number, rune = made["unique_id"], made["rune"]
            used.add(number)
        credentials[name] = {service: rune if service == SERVICE else None for service in consumer.services}
    for number, (found, _text) in sorted(there.items()):
        if is_ours(found) and number not in used:
            changed = True
            if not check:
                lightningd.call("blacklistrune", start=int(number))
    return Credentials(credentials, changed)


make_credentials(make)
