# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is verified of NBXplorer's second chain. tests/e2e has the first."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest
from bcm_guest.prove import Stack

from tests.support import COLLECTION

VERIFY = COLLECTION / "roles/nbxplorer/scripts/verify.py"


def looked(monkeypatch: pytest.MonkeyPatch, needs: dict[str, Any], **said: Any) -> tuple[list[str], list[str]]:
    """Notes and warnings, if it says this of Liquid."""
    monkeypatch.setattr("bcm_guest.prove.prove", lambda look: None)
    asked = {"/v1/cryptos/lbtc/status": (200, json.dumps(said))}
    monkeypatch.setattr("bcm_guest.prove.http_request", lambda _place, path, credentials: asked[path])
    found: tuple[list[str], list[str]] = runpy.run_path(str(VERIFY))["look_at_liquid"](
        Stack({"needs": needs}, {}, {}), None
    )
    return found


def test_second_chain_is_reported_if_it_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert looked(monkeypatch, {"liquid": {}}, isFullySynched=True, syncHeight=7) == (["height 7 of Liquid"], [])
    assert looked(monkeypatch, {}) == ([], [])


def test_second_chain_that_lacks_blocks_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bitcoins are taken meanwhile."""
    notes, warnings = looked(monkeypatch, {"liquid": {}}, isFullySynched=False, syncHeight=None)
    assert notes == [] and "its payments are seen later" in warnings[0]
