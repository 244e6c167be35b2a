# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which connections of an instance the rules of the plan allow, and that the others end."""

from __future__ import annotations

import io
import json
import runpy
import sys
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest.connections import Connection
from tests.support import COLLECTION

SCRIPT = COLLECTION / "roles/_common/scripts/connections.py"
OWN, OTHER, WORLD = "10.80.16.5", "10.80.16.9", "203.0.113.7"
RULES = [
    {"source": f"{OWN}/32", "destination": f"{OTHER}/32", "protocol": "tcp", "destination_port": "8332"},
    {"source": f"{OTHER}/32", "destination": f"{OWN}/32", "protocol": "tcp", "destination_port": "50001"},
    {"source": f"{OWN}/32", "destination": "198.51.100.0/24,203.0.113.0/24", "protocol": "tcp",
     "destination_port": "1-52,54-65535"},
    {"destination": f"{OWN}/32", "protocol": "tcp", "destination_port": "9001"},
]  # fmt: skip


@pytest.mark.parametrize(
    ("connection", "allowed"),
    [
        (("tcp", OWN, 40000, OTHER, 8332), True),
        (("tcp", OWN, 50001, OTHER, 40000), True),
        (("tcp", OWN, 40000, WORLD, 443), True),
        (("tcp", OWN, 9001, "192.0.2.1", 40000), True),
        (("udp", OWN, 40000, "10.80.16.1", 53), True),
        (("tcp", OWN, 40000, WORLD, 53), False),
        (("udp", OWN, 40000, WORLD, 443), False),
        (("tcp", OWN, 40000, OTHER, 8333), False),
        (("tcp", OWN, 8332, OTHER, 40000), False),
        (("tcp", OTHER, 40000, WORLD, 443), False),
        (("tcp", OWN, 40000, "10.80.16.1", 22), False),
        (("tcp", OWN, 40000, "192.0.2.1", 9001), False),
        (("tcp", "fd00::1", 40000, "2001:db8::1", 443), False),
    ],
)
def test_connection_is_allowed_by_a_rule_in_its_direction(connection: Any, allowed: bool) -> None:
    is_allowed = runpy.run_path(str(SCRIPT))["is_allowed"]
    assert is_allowed(Connection(*connection), RULES, ["10.80.16.1"]) is allowed


def test_nothing_ends_in_check_mode(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    request = {"rules": [{"destination": "0.0.0.0/0", "protocol": "tcp", "destination_port": "1-65535"}],
               "gateways": [], "check": True}  # fmt: skip
    script = runpy.run_path(str(SCRIPT))
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    script["main"]()
    assert set(json.loads(capsys.readouterr().out)) == {"ended"}
