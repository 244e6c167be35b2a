# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep a token for each user of each service, and no others."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from bcm_guest.prove import Consumer, Credentials, Fault, Lasting, Stack, http_request, make_credentials


def ask(stack: Stack, method: str, body: str = "") -> Any:
    headers = {"Token": stack.secrets["mint/admin"]}
    status, text = http_request(stack.service("rest"), method, body=body, headers=headers)
    if status != 200:
        raise Fault(f"it answers its administrator with status {status}")
    return json.loads(text)


def make(stack: Stack, consumers: Mapping[str, Consumer], check: bool) -> Credentials:
    known, wanted = ask(stack, "GET"), {}
    for name, consumer in consumers.items():
        may = consumer.permissions["may"]
        if may != [word for word in may if word in ("read", "write")]:
            raise Lasting(f"{name} asks to {', '.join(may)}, and users may read and write")
        for service in consumer.services:
            found = known.get(f"{name}/{service}")
            token = found["token"] if found and found["may"] == may else secrets.token_urlsafe()
            wanted[f"{name}/{service}"] = {"may": may, "token": token}
    if wanted != known and not check:
        ask(stack, "PUT", json.dumps(wanted))
    made: dict[str, dict[str, str]] = {name: {} for name in consumers}
    for key, user in wanted.items():
        name, service = key.split("/")
        if not check or user == known.get(key):
            made[name][service] = user["token"]
    return Credentials(made, changed=wanted != known)


make_credentials(make)
