# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answer `bcm backup` and `bcm lightning restore`: what was copied, the copies, and news of them."""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bcm_guest import copies
from bcm_guest.prove import Endpoint, Fault

_INTERVAL = 0.1  # seconds


def state(_request: dict[str, Any]) -> dict[str, Any]:
    """What the unit has written down."""
    found = json.loads(copies.STATE.read_text(encoding="utf-8"))
    settings = json.loads(copies.SETTINGS.read_text(encoding="utf-8"))
    sources = {stack: source for stack, source in found["sources"].items() if stack in settings["sources"]}
    return {"sources": sources, "targets": found["targets"], "recipient": settings["recipient"]}


def news(request: dict[str, Any]) -> dict[str, Any]:
    """The copies that are not those that are known, as soon as there are any, or none after some seconds."""
    end = time.monotonic() + request["seconds"]
    while True:
        sources = json.loads(copies.STATE.read_text(encoding="utf-8"))["sources"]
        found = {
            stack: source["copy"]
            for stack, source in sources.items()
            if source.get("copy") and source["copy"] != request["known"].get(stack)
        }
        if found or time.monotonic() > end:
            return {"copies": {name: _encoded((copies.COPIES / name).read_bytes()) for name in found.values()}}
        time.sleep(_INTERVAL)


def newest(request: dict[str, Any]) -> dict[str, Any]:
    """The newest copy at each of some targets, and in the stack's own volume; or why there is none."""
    settings = json.loads(copies.SETTINGS.read_text(encoding="utf-8"))
    beginning = f"{settings['datacenter']}-{settings['chain']}-{request['stack']}-"

    def read(name: str) -> dict[str, str]:
        target = copies.target(name, settings["targets"][name], Endpoint.of(settings["socks"]))
        try:
            last = copies.newest(target.names(beginning), beginning)
            return {"copy": last, "content": _encoded(target.get(last))} if last else {"fault": "it has no copy"}
        except (Fault, OSError) as fault:
            return {"fault": str(fault)}
        finally:
            target.close()

    own = copies.newest([path.name for path in copies.COPIES.glob("*.age")], beginning)
    found = {"": {"copy": own, "content": _encoded((copies.COPIES / own).read_bytes())}} if own else {}
    with ThreadPoolExecutor() as pool:
        names = [name for name in settings["targets"] if name in request["targets"]]
        return {"targets": {**found, **dict(zip(names, pool.map(read, names), strict=True))}}


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


ANSWERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"state": state, "news": news, "newest": newest}

if not copies.SETTINGS.exists():
    raise SystemExit("it was never configured; `bcm stack start backups` does that")
asked = json.load(sys.stdin)
json.dump(ANSWERS[asked["verb"]](asked), sys.stdout)
