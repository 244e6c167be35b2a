# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bake a macaroon for each consumer, with exactly the permissions that it needs, and revoke those that nobody needs.

Each has a root key of its own, so that it can be revoked without the others. Its number comes from the name of the
consumer and the permissions: other permissions are another macaroon. The volume has the macaroons, as
``consumers/<consumer>.<number>.json``; root keys that a person made are left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcm_guest.lnd import Lnd
from bcm_guest.prove import Consumer, Credentials, Lasting, Stack, make_credentials
from bcm_guest.volume_files import list_files, make_directory, read_file, remove_file, write_file

DIRECTORY = Path("/var/lib/lnd/consumers")
SERVICES = {"grpc", "rest"}


def permissions_of(consumer: str, needed: Mapping[str, Any]) -> list[str]:
    """What a consumer asks for, as ``entity:action`` or ``uri:/package.Service/Method``. Raises Lasting."""
    found = needed.get("macaroon")
    if not isinstance(found, list) or not found or not all(isinstance(item, str) and ":" in item for item in found):
        raise Lasting(
            f"stack {consumer} uses it, but its meta/stack.yml does not say what it may do there: list it as "
            "needs.lnd.permissions.macaroon, such as [info:read, invoices:write]"
        )
    if powerful := [item for item in found if item.startswith("macaroon:") or "Macaroon" in item]:
        raise Lasting(f"stack {consumer} asks for {', '.join(powerful)}: it could give itself any other permission")
    return sorted(set(found))


def root_key_id(consumer: str, permissions: list[str]) -> str:
    """The number of a macaroon's root key, below 2^48, above those that people choose."""
    digest = hashlib.sha256(json.dumps([consumer, permissions]).encode()).digest()
    return str(int.from_bytes(digest[:6], "big") | 1 << 40)


def bake(lnd: Lnd, number: str, permissions: list[str]) -> str:
    asked = [dict(zip(("entity", "action"), item.split(":", 1), strict=True)) for item in permissions]
    body = {"permissions": asked, "root_key_id": number}
    return str(lnd.call("POST", "/v1/macaroon", body, macaroon="admin")["macaroon"])


def make(stack: Stack, consumers: Mapping[str, Consumer], check: bool) -> Credentials:
    lnd = Lnd(stack, stack.expected["directory"])
    known = {str(number) for number in lnd.call("GET", "/v1/macaroon/ids", macaroon="admin")["root_key_ids"]}
    made = list_files(DIRECTORY, ".json")
    used, changed = set(), False
    credentials: dict[str, dict[str, str | None]] = {}
    for name, consumer in consumers.items():
        macaroon = None
        if SERVICES.intersection(consumer.services):
            permissions = permissions_of(name, consumer.permissions)
            number = root_key_id(name, permissions)
            path = DIRECTORY / f"{name}.{number}.json"
            used.add(path)
            if path in made and number in known:
                macaroon = str(json.loads(read_file(path)))
            else:
                changed = True
                if check:
                    continue
                macaroon = bake(lnd, number, permissions)
                make_directory(DIRECTORY)
                write_file(path, json.dumps(macaroon).encode())
        credentials[name] = {service: macaroon if service in SERVICES else None for service in consumer.services}
    for path in made:
        if path not in used:
            changed = True
            if not check:
                number = path.stem.rpartition(".")[2]
                if number in known:
                    lnd.call("DELETE", f"/v1/macaroon/{number}", macaroon="admin")
                remove_file(path)
    return Credentials(credentials, changed)


make_credentials(make)
