# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The blocks in which a node that is restored looks for its coins: ``bcm_guest.old_blocks``.

``ask`` makes a call of bitcoind, and raises Fault.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from .prove import Lasting

#: Seconds by which the clock of miners may be wrong.
CLOCKS = 7200


def birth_height(ask: Callable[..., Any], created: str | None, margin: float = CLOCKS) -> int:
    """The height of the chain when a wallet was made, or before; 1 if that is not known, 0 if there is no block.

    ``margin`` is how many seconds before that its search begins. Raises Fault.
    """
    moment = datetime.fromisoformat(created).timestamp() - margin if created else 0
    high = int(ask("getblockchaininfo")["blocks"])
    low = min(1, high)
    while low < high:
        middle = (low + high + 1) // 2
        if ask("getblockheader", ask("getblockhash", middle))["mediantime"] < moment:
            low = middle
        else:
            high = middle - 1
    return low


def check_old_blocks(ask: Callable[..., Any], since: int) -> None:
    """Check that there are all blocks from a height on: a node gets what bitcoind has dropped from bitcoind's peers.

    Without these, it would search forever. Raises Lasting, and Fault.
    """
    kept = int(ask("getblockchaininfo").get("pruneheight", 0))
    if since >= kept or any("NETWORK" in peer["servicesnames"] for peer in ask("getpeerinfo")):
        return
    raise Lasting(
        f"nothing was restored: bitcoind has dropped the blocks before {kept} (bitcoind_prune), its coins are searched "
        f"from {since} on, and bitcoind has no peer with all blocks; restore again once it has one (`bcm bitcoin-cli "
        "getpeerinfo` shows them)"
    )
