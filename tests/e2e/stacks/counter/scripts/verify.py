# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the rune lets counter make invoices, and nothing else."""

import json
import time

from bcm_guest.prove import Fault, Lasting, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    headers = {"Rune": stack.secret("clightning", "rest"), "Content-Type": "application/json"}
    place = stack.need("clightning", "rest")
    for method in ("getinfo", "listfunds", "showrunes", "createrune", "pay", "withdraw"):
        status, text = http_request(place, "POST", f"/v1/{method}", "{}", headers=headers)
        if status != 401 or "Not permitted" not in text:
            raise Lasting(f"clightning answers {method} with status {status}: {text}")
    asked = {"amount_msat": 100_000, "label": f"{time.time()}", "description": "coffee"}
    status, text = http_request(place, "POST", "/v1/invoice", json.dumps(asked), headers=headers)
    if status not in (200, 201):
        raise Fault(f"clightning makes no invoice, it answers with status {status}: {text}")
    return Report({"invoice": json.loads(text)["bolt11"]})


prove(look)
