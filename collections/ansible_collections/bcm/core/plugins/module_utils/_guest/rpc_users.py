# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the verify programs of nodes share whose RPC has a user for each stack: ``bcm_guest.rpc_users``."""

from __future__ import annotations

from collections.abc import Iterator

from .prove import Endpoint, Refused, Stack, json_rpc

# None of them does harm if it is allowed by mistake.
_HARMLESS = ("uptime", "getrpcinfo", "help")


def faults_of_users(stack: Stack) -> Iterator[str]:
    """Faults of users who cannot log in, or may make a call that they did not ask for. Raises Fault."""
    rpc = Endpoint("127.0.0.1", stack.service("rpc").port)
    for user, consumer in stack.bcm["consumers"].items():
        if "rpc" not in consumer["services"]:
            continue
        calls = consumer["permissions"]["rpc_calls"]
        forbidden = [name for name in _HARMLESS if name not in calls][0]
        try:
            json_rpc(rpc, forbidden, credentials=f"{user}:{stack.secrets[f'{stack.name}/rpc/{user}']}")
            yield f"user {user} may call {forbidden}, which it did not ask for"
        except Refused as refused:
            # 403 means that the password was right and the call was not; 401, that the password was wrong.
            if refused.status != 403:
                yield f"user {user} cannot log in (status {refused.status})"
