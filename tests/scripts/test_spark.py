# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of Spark, and of the node behind it."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import pytest
from bcm_guest.prove import Fault, Lasting, Report, Stack, Waiting

from tests.support import COLLECTION

VERIFY = COLLECTION / "roles/spark/scripts/verify.py"
NODE = {"id": "02clightning", "blockheight": 7}
CHANNEL = {"msatoshi_to_us": 5_000_000, "state": "CHANNELD_NORMAL"}


def looked(monkeypatch: pytest.MonkeyPatch, said: tuple[int, Any] = (201, NODE), **shown: Any) -> Report:
    """What its verify program finds, if the node says that, and it shows this."""
    answers = {
        "getinfo": NODE,
        "listfunds": {"outputs": [{"value": 9, "status": "confirmed"}, {"value": 2, "status": "unconfirmed"}]},
        "listpeers": {"peers": [{"channels": [CHANNEL]}]},
        "_listinvoices": {"invoices": [{"msatoshi_received": 5000}]},
        "_listpays": {"pays": []},
        "login": 401,
        **shown,
    }
    monkeypatch.setattr("bcm_guest.prove.prove", lambda look: None)

    def ask(
        place: str, method: str = "GET", path: str = "/", body: str = "", credentials: str = "", **more: Any
    ) -> Any:
        if place == "clightning":
            assert more["headers"]["Rune"] == "a-rune"
            return said[0], json.dumps(said[1])
        if method == "GET":
            return (200, "<title>Spark</title>") if credentials == "bcm:a-password" else (answers["login"], "")
        if more["headers"]["X-Access"] != program["access_key"]("a-password"):
            return 401, ""
        found = answers[json.loads(body)["method"]]
        return found if isinstance(found, tuple) else (200, json.dumps(found))

    monkeypatch.setattr("bcm_guest.prove.http_request", ask)
    monkeypatch.setattr(Stack, "need", lambda _stack, name, _service: name)
    monkeypatch.setattr(Stack, "service", lambda _stack, name: name)
    program = runpy.run_path(str(VERIFY))
    secrets = {"spark/password": "a-password", "clightning/rest/spark": "a-rune"}
    found: Report = program["look"](Stack({"stack": "spark"}, secrets, {}))
    return found


def test_what_it_shows_is_what_the_node_has(monkeypatch: pytest.MonkeyPatch) -> None:
    report = looked(monkeypatch)
    assert report.facts == {"height": 7, "coins": 9, "channels": 1, "paid_invoices": 1}
    assert report.notes == ["clightning at height 7, 5000 sat in 1 channels"]


def test_node_that_is_not_synced_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    behind = {**NODE, "blockheight": 3}
    assert looked(monkeypatch, (201, behind), getinfo=behind).facts["height"] == 3


@pytest.mark.parametrize(
    ("said", "shown", "error", "message"),
    [
        # It is starting, or has revoked the rune.
        ((500, "starting"), {}, Waiting, "clightning answers getinfo with status 500"),
        ((401, "Not authorized"), {}, Waiting, 'clightning answers getinfo with status 401: "Not authorized"'),
        # As when its socket finds another certificate at the node.
        ((201, NODE), {"getinfo": (500, "The node does not answer: CERTIFICATE_VERIFY_FAILED")}, Fault,
         "it answers getinfo with status 500: The node does not answer: CERTIFICATE_VERIFY_FAILED"),
        ((201, NODE), {"getinfo": {**NODE, "blockheight": 6}}, Fault, "it shows height 6, clightning is at 7"),
        ((201, NODE), {"getinfo": {**NODE, "id": "03"}}, Lasting, "it shows the node 03, not 02clightning"),
        ((201, NODE), {"login": 200}, Lasting, "it answers a request without a login with status 200"),
    ],
)  # fmt: skip
def test_fault_is_named(
    monkeypatch: pytest.MonkeyPatch, said: Any, shown: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        looked(monkeypatch, said, **shown)
