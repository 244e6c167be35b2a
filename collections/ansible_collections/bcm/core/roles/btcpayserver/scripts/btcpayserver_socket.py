# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The socket on which BTCPay Server finds Core Lightning: the calls that it makes, without those that pay.

They are those of the library BTCPayServer.Lightning. BTCPay Server says to a person what the socket refuses.
"""

from __future__ import annotations

from bcm_guest.lightning_socket import serve

#: the calls, with the names of their parameters; `needs` in meta/stack.yml has the same
METHODS = {
    "delinvoice": ("label", "status"),
    "getinfo": (),
    "invoice": (
        "amount_msat",
        "label",
        "description",
        "expiry",
        "fallbacks",
        "preimage",
        "exposeprivatechannels",
        "cltv",
        "deschashonly",
    ),
    "listfunds": (),
    "listinvoices": ("label", "invstring", "payment_hash"),
    "listpays": ("bolt11", "payment_hash"),
    "listpeerchannels": (),
    "waitanyinvoice": ("lastpay_index",),
}

if __name__ == "__main__":
    serve(METHODS)
