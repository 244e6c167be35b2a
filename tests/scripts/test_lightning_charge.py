# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nginx says with the pages of Lightning Charge, and what is said of it and of the node behind it."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import pytest
from bcm_guest.prove import Fault, Lasting, Report, Stack, Waiting

from tests.support import COLLECTION

NODE = {"id": "02clightning", "blockheight": 7}
INVOICE = {"id": "an-id", "payreq": "lnbcrt1", "status": "unpaid", "msatoshi": "1000"}
TOKENS = {"lightning-charge/token": "of-the-person", "lightning-charge/http/kiosk": "of-kiosk"}


def test_pages_for_customers_may_load_nothing_from_elsewhere() -> None:
    """Their style would ask for fonts."""
    text = (COLLECTION / "roles/lightning_charge/templates/nginx.conf.j2").read_text()
    (block,) = re.findall(r"location ~ \^/\(checkout\|static\)/ \{(.*?)\n        \}", text, re.S)
    (policy,) = re.findall(r'add_header Content-Security-Policy "(.*)" always;', block)
    sources = {source for directive in policy.split("; ") for source in directive.split()[1:]}
    assert "default-src 'self'" in policy and sources == {"'self'", "'unsafe-inline'", "data:"}


def looked(monkeypatch: pytest.MonkeyPatch, **more: Any) -> Report:
    """What its verify program finds, if it or the node answers some requests in another way."""
    answers: dict[str, tuple[int, Any]] = {
        "node getinfo": (201, NODE),
        "node listinvoices": (201, {"invoices": [{"bolt11": "lnbcrt1"}]}),
        "GET /info": (200, NODE),
        "POST /invoice": (201, INVOICE),
        "GET /invoice/an-id": (200, INVOICE),
        "DELETE /invoice/an-id": (204, ""),
        **{name.replace("_", " ", 1): answer for name, answer in more.items()},
    }
    known = dict(TOKENS) if "token" not in more else {**TOKENS, "lightning-charge/http/kiosk": more["token"]}
    monkeypatch.setattr("bcm_guest.prove.prove", lambda look: None)

    def ask(place: str, method: str, path: str, body: str = "", credentials: str = "", headers: Any = None) -> Any:
        if place == "clightning":
            assert headers["Rune"] == "a-rune"
            status, found = answers[f"node {path.removeprefix('/v1/')}"]
        elif credentials.removeprefix("api-token:") not in known.values():
            status, found = more.get("stranger", 401), ""
        else:
            status, found = answers[f"{method} {path}"]
        return status, json.dumps(found)

    monkeypatch.setattr("bcm_guest.prove.http_request", ask)
    monkeypatch.setattr(Stack, "need", lambda _stack, name, _service: name)
    monkeypatch.setattr(Stack, "service", lambda _stack, name: name)
    program = runpy.run_path(str(COLLECTION / "roles/lightning_charge/scripts/verify.py"))
    bcm = {"stack": "lightning-charge", "consumers": {"kiosk": {"services": ["http"]}}}
    secrets = {**TOKENS, "clightning/rest/lightning-charge": "a-rune"}
    found: Report = program["look"](Stack(bcm, secrets, {"prefix": "lnbcrt"}))
    return found


def test_invoice_is_made_and_tokens_of_all_clients_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    report = looked(monkeypatch)
    assert report.facts == {"public_key": "02clightning", "height": 7}
    assert report.notes == ["invoices at node 02clightning", "tokens for kiosk"]


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        # It is starting, or has revoked the rune.
        ({"node_getinfo": (500, "starting")}, Waiting, "clightning answers getinfo with status 500"),
        ({"node_getinfo": (401, "Not authorized")}, Waiting, "clightning answers getinfo with status 401"),
        # As when its socket finds another certificate at the node.
        ({"GET_/info": (400, "The node does not answer")}, Fault, "it answers /info with status 400"),
        ({"GET_/info": (200, {**NODE, "id": "03"})}, Lasting, "it shows the node 03, not 02clightning"),
        ({"POST_/invoice": (400, "LightningError")}, Fault, "it makes no invoice: status 400"),
        ({"node_listinvoices": (201, {"invoices": []})}, Lasting, "the node does not know the invoice that it made"),
        ({"stranger": 200}, Lasting, "it answers a request without a token with status 200"),
        # The token of a stack that uses it is another one than nginx has.
        ({"token": "a-former-one"}, Fault, "it answers /info with status 401"),
    ],
)  # fmt: skip
def test_fault_is_named(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        looked(monkeypatch, **more)
