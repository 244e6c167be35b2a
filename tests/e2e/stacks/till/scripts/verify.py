# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that the macaroon lets till make invoices, and nothing else."""

import json

from bcm_guest.prove import Fault, Lasting, Report, Stack, http_request, prove


def look(stack: Stack) -> Report:
    headers = {"Grpc-Metadata-macaroon": stack.secret("lnd", "rest")}
    place = stack.need("lnd", "rest")
    for path in ("/v1/getinfo", "/v1/balance/blockchain", "/v1/macaroon/ids", "/v1/invoices"):
        status, text = http_request(place, path=path, headers=headers)
        if status == 200 or "permission denied" not in text:
            raise Lasting(f"lnd answers {path} with status {status}: {text}")
    status, text = http_request(place, "POST", "/v1/invoices", json.dumps({"value": "100"}), headers=headers)
    if status != 200:
        raise Fault(f"lnd makes no invoice, it answers with status {status}: {text}")
    return Report({"invoice": json.loads(text)["payment_request"]})


prove(look)
