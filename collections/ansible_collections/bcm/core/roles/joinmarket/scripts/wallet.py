# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the wallet of JoinMarket, if there is none, open it, and have it offer what the plan says.

The recovery words come only if they were asked for: the answer ``needs_words`` does that. The secrets are
``joinmarket/recovery_words``, 12 words (BIP 39), and ``joinmarket/wallet_name``, the name that it has at bitcoind,
which is made of its master key. What the answer has under ``keep`` is kept as secrets.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from bcm_guest.joinmarket import Joinmarket, write_state
from bcm_guest.prove import Endpoint, Fault, Lasting, Stack

_WORDS, _WALLET = "joinmarket/recovery_words", "joinmarket/wallet_name"


def make_ready(stack: Stack, *, has_words: bool, restore: bool, end: float) -> dict[str, Any]:
    """Make and open the wallet. ``end`` is when to give up, in seconds of the monotonic clock. Raises Fault."""
    service = stack.bcm["services"]["http"]
    place = Endpoint(service["listen"], int(service["port"]))
    joinmarket = Joinmarket(place, stack.secrets["joinmarket/wallet_password"])
    joinmarket.wait(end)
    keep: dict[str, str] = {}
    is_missing = not joinmarket.has_wallet()
    if is_missing:
        if restore and not has_words:
            raise Lasting(
                "there is nothing to restore: the secrets have no recovery words; add them as "
                "joinmarket/recovery_words with `bcm secret edit`"
            )
        if has_words and not restore:
            raise Lasting(
                "its wallet is not on its volume. Put the right volume back; if it was lost, or the recovery words are "
                "those of another wallet that you bring here, joinmarket_restore=true (-e) makes it of them"
            )
        if restore and _WORDS not in stack.secrets:
            return {"needs_words": True, "keep": {}, "changed": False}
        if restore:
            token = joinmarket.restore(stack.secrets[_WORDS])
        else:
            token, keep[_WORDS] = joinmarket.create()
    else:
        token = joinmarket.unlock()
        if not has_words:
            # Whoever made it was interrupted before they were kept.
            keep[_WORDS] = joinmarket.words(token)
    name, known = joinmarket.name(token), stack.secrets.get(_WALLET)
    if known and name != known:
        raise Lasting(
            f"its volume has another wallet: {name}, not {known}; put the right volume back, or, if you made it of "
            "other recovery words, remove joinmarket/wallet_name with `bcm secret edit`"
        )
    if not known:
        keep[_WALLET] = name
    bond = stack.expected["bond"]
    state = {"wallet": name, "bond": {"until": bond, "address": joinmarket.bond(token, bond)} if bond else None}
    joinmarket.offer(token, stack.expected["offer"])
    return {"needs_words": False, "keep": keep, "changed": write_state(state) or is_missing}


def main() -> None:
    request = json.load(sys.stdin)
    stack = Stack(request["bcm"], request["secrets"], request["expected"])
    end = time.monotonic() + request["deadline"]
    try:
        answer = make_ready(stack, has_words=request["has_words"], restore=request["restore"], end=end)
    except (Fault, OSError) as error:
        raise SystemExit(f"joinmarket: {error}") from error
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
