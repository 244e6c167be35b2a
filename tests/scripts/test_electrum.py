# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What electrum may be connected to. tests/e2e has the real one."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.connections import Connection
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Endpoint, Stack
from tests.support import COLLECTION

SERVER = Endpoint("10.0.0.2", 60402)
JOURNAL = {"address": "10.0.0.3", "port": 19531, "reader": "10.0.0.4"}


@pytest.mark.parametrize(
    ("journal", "port", "other", "far_port", "found"),
    [
        (None, 40001, "10.0.0.2", 60402, []),
        (None, 40001, "10.0.0.9", 50002, [("10.0.0.9", 50002)]),
        (None, 19531, "10.0.0.4", 42366, [("10.0.0.4", 42366)]),
        (JOURNAL, 19531, "10.0.0.4", 42366, []),
        (JOURNAL, 19531, "10.0.0.9", 42366, [("10.0.0.9", 42366)]),
        (JOURNAL, 40001, "10.0.0.4", 19531, [("10.0.0.4", 19531)]),
    ],
)
def test_only_its_server_and_the_reader_of_its_journal_are_no_strangers(
    monkeypatch: pytest.MonkeyPatch, journal: Any, port: int, other: str, far_port: int, found: Any
) -> None:
    monkeypatch.setattr("bcm_guest.prove.prove", lambda _look: None)
    strangers = runpy.run_path(str(COLLECTION / "roles/electrum/scripts/verify.py"))["strangers"]
    stack = Stack({"stack": "electrum", "journal": journal}, {}, {})
    assert strangers(stack, SERVER, [Connection("tcp", "10.0.0.3", port, other, far_port)]) == found
