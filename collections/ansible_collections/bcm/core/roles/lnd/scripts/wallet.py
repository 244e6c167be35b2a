# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make lnd's wallet, if there is none, and say whose it is.

Without recovery words, it only answers with new ones: they are kept before a wallet is made of them. The secrets are
``lnd/recovery_words``, 24 words (aezeed), ``lnd/wallet_created``, the time, and ``lnd/public_key``, the key of the node
once it has been at work. What the program answers under ``keep`` is kept as secrets.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bcm_guest.lnd import ACTIVE, NO_WALLET, WAITING, Lnd
from bcm_guest.prove import Fault, Stack

_INTERVAL = 0.2  # seconds
# Addresses of each kind that are looked for on chain: those after a gap of so many unused ones are not found.
_RECOVERY_WINDOW = 2500
# From when it waits for blocks until it works, if bitcoind has them. Otherwise that may last for days.
_GRACE = 5.0  # seconds


def reached(lnd: Lnd, end: float) -> str:
    """Return the state that lnd comes to: no wallet, at work, or waiting for blocks. Raises Fault at ``end``."""
    waits_until = None
    while True:
        try:
            state = lnd.state()
            fault = Fault(f"its wallet is not open; its state is {state}")
        except Fault as error:
            state, fault = "", error
        now = time.monotonic()
        if state == WAITING and waits_until is None:
            waits_until = now + _GRACE
        if state in (NO_WALLET, ACTIVE) or (state == WAITING and waits_until is not None and now > waits_until):
            return state
        if now > end:
            raise fault
        time.sleep(_INTERVAL)


def recovery(backup: Path) -> dict[str, Any]:
    """What the wallet is to be brought back with: its coins on chain, and those in channels if there is a backup.

    A copy of the backup is kept, since lnd-backup writes the next one over it.
    """
    found: dict[str, Any] = {"recovery_window": _RECOVERY_WINDOW}
    if backup.exists():
        shutil.copy2(backup, backup.with_suffix(".restored"))
        content = base64.b64encode(backup.read_bytes()).decode()
        found["channel_backups"] = {"multi_chan_backup": {"multi_chan_backup": content}}
    return found


def look(stack: Stack, restore: bool, end: float) -> dict[str, Any]:
    lnd = Lnd(stack, stack.expected["directory"])
    words, known = stack.secrets.get("lnd/recovery_words"), stack.secrets.get("lnd/public_key")
    created = stack.secrets.get("lnd/wallet_created")
    state = reached(lnd, end)
    if state == NO_WALLET:
        if not words:
            return {"keep": {"lnd/recovery_words": " ".join(lnd.call("GET", "/v1/genseed")["cipher_seed_mnemonic"])}}
        if created and not restore:
            raise Fault(
                f"its wallet, created {created}, is not on its volume. If the volume was lost, lnd_restore=true (-e) "
                "makes it again from its recovery words, and has its channels closed; if lnd_database was changed, "
                "change it back"
            )
        password = base64.b64encode(stack.secrets["lnd/wallet_password"].encode()).decode()
        body = {"wallet_password": password, "cipher_seed_mnemonic": words.split()}
        lnd.call("POST", "/v1/initwallet", {**body, **(recovery(Path(stack.expected["backup"])) if created else {})})
        state = reached(lnd, end)
    elif not words:
        raise Fault(
            "its volume has a wallet, and the secrets have no recovery words of it: put the newest copy of the secrets "
            "back"
        )
    keep = {} if created else {"lnd/wallet_created": datetime.now(UTC).isoformat(timespec="seconds")}
    if state != ACTIVE:
        return {"keep": keep}
    found = lnd.info()["identity_pubkey"]
    if known and found != known:
        raise Fault(f"its volume has the wallet of another node: {found}, not {known}; put the right volume back")
    return {"keep": keep if known else {**keep, "lnd/public_key": found}}


request = json.load(sys.stdin)
try:
    answer = look(
        Stack(request["bcm"], request["secrets"], request["expected"]),
        request["restore"],
        time.monotonic() + request["deadline"],
    )
except Fault as fault:
    raise SystemExit(f"lnd: {fault}") from fault
json.dump(answer, sys.stdout)
