# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has left two data centers, from before they were made until ten minutes after."""

from __future__ import annotations

import time

import pytest

from tests.e2e.conftest import FIRST, SECOND, Pair, Person, inside
from tests.support import until

pytestmark = [pytest.mark.containers, pytest.mark.whole]

MINUTES = 10
# A documentation address at which nobody is.
ELSEWHERE = "198.51.100.9"
_CONNECT = f"import socket; socket.create_connection(('{ELSEWHERE}', 80), 2)"


def _tips(person: Person) -> set[str]:
    return {person.succeeds("-d", name, "bitcoin-cli", "getbestblockhash") for name in (FIRST, SECOND)}


def test_packets_go_only_to_relays(person: Person, pair: Pair) -> None:
    """With blocks to tell each other about, as long as is missing of ten minutes since they were up."""
    while True:
        person.succeeds("-d", FIRST, "bitcoin-cli", "generatetodescriptor", "1", "raw(51)")
        until(lambda: len(_tips(person)) == 1, "the block of the first")
        left = pair.up + 60 * MINUTES - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(15.0, left))
    assert pair.strange() == {}
    packets = pair.capture.seen()
    assert sum(count for packet, count in packets.items() if packet != "arp") > 1000, "there was no traffic"


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_capture_shows_a_packet_to_another_address(pair: Pair, name: str) -> None:
    """tor's own user may send to whom it likes: without this, what was not seen would prove nothing."""
    inside(name, "tor", "sh", "-c", f'runuser -u debian-tor -- python3 -c "{_CONNECT}" || true')
    until(lambda: any(f"{ELSEWHERE}:80" in packet for packet in pair.strange()), "the packet")
