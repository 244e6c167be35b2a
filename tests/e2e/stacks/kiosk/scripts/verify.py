# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the token of kiosk, and no other, lets it make invoices at Lightning Charge."""

import json

from bcm_guest.prove import Fault, Lasting, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    place, token = stack.need("lightning-charge", "http"), stack.secret("lightning-charge", "http")
    for credentials in ("", "api-token:another", f"kiosk:{token}"):
        status, text = http_request(place, path="/info", credentials=credentials)
        if status != 401:
            raise Lasting(f"Lightning Charge answers a client without the token with status {status}: {text}")
    asked = json.dumps({"msatoshi": "100000", "description": "coffee", "expiry": 600})
    headers = {"Content-Type": "application/json"}
    status, text = http_request(place, "POST", "/invoice", asked, f"api-token:{token}", headers)
    if status != 201:
        raise Fault(f"Lightning Charge makes no invoice, it answers with status {status}: {text}")
    return Report({"invoice": json.loads(text)["id"]})


prove(look)
