# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The socket on which Lightning Charge finds Core Lightning: the calls that it makes."""

from __future__ import annotations

from typing import Any

from bcm_guest.lightning_socket import Call, Params, serve

#: the calls, with the names of their parameters; `needs` in meta/stack.yml has those that the node answers
METHODS = {
    "delinvoice": ("label", "status"),
    "getinfo": (),
    "invoice": ("amount_msat", "label", "description", "expiry"),
    "listconfigs": (),
    "listinvoices": ("label",),
    "waitanyinvoice": ("lastpay_index", "timeout"),
}


async def list_configs(_call: Call, _params: Params) -> Any:
    """Nothing: Lightning Charge asks when it starts, and uses none of it. The node's has passwords."""
    return {}


ANSWERS = {"listconfigs": list_configs}

if __name__ == "__main__":
    serve(METHODS, ANSWERS)
