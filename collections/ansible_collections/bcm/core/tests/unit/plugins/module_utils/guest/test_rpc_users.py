# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which users of a node's RPC are at fault."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import rpc_users
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Refused, Stack


def faults(monkeypatch: pytest.MonkeyPatch, status: int, calls: list[str]) -> tuple[list[str], list[str]]:
    """The faults of a node that answers with a status, and the calls that it was asked."""
    asked: list[str] = []

    def json_rpc(_place: Any, method: str, *, credentials: str) -> None:
        asked.append(f"{credentials} {method}")
        if status != 200:
            raise Refused("refused", status)

    monkeypatch.setattr(rpc_users, "json_rpc", json_rpc)
    consumers = {
        "shop": {"services": ["rpc"], "permissions": {"rpc_calls": calls}},
        "reader": {"services": ["p2p"], "permissions": {}},
    }
    service = {"listen": "10.0.0.2", "port": 8332, "tls": None}
    bcm = {"stack": "node", "address": "10.0.0.2", "services": {"rpc": service}, "consumers": consumers}
    return list(rpc_users.faults_of_users(Stack(bcm, {"node/rpc/shop": "own"}, {}))), asked


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        (403, []),
        (401, ["user shop cannot log in (status 401)"]),
        (200, ["user shop may call uptime, which it did not ask for"]),
    ],
)
def test_user_may_make_its_own_calls_only(monkeypatch: pytest.MonkeyPatch, status: int, fault: list[str]) -> None:
    assert faults(monkeypatch, status, ["getblockcount"]) == (fault, ["shop:own uptime"])


def test_call_that_was_asked_for_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(monkeypatch, 403, ["uptime"]) == ([], ["shop:own getrpcinfo"])
