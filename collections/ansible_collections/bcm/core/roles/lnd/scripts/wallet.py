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


def reached(lnd: Lnd, end: float, grace: float) -> str:
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
            waits_until = min(now + grace, end)
        if state in (NO_WALLET, ACTIVE) or (state == WAITING and waits_until is not None and now > waits_until):
            return state
        if now > end:
            raise fault
        time.sleep(_INTERVAL)


def create(lnd: Lnd, stack: Stack, recovery_window: int) -> None:
    password = base64.b64encode(stack.secrets["lnd/wallet_password"].encode()).decode()
    words = stack.secrets["lnd/recovery_words"].split()
    body = {"wallet_password": password, "cipher_seed_mnemonic": words, "recovery_window": recovery_window}
    lnd.call("POST", "/v1/initwallet", body)


def restore_channels(lnd: Lnd, backup: Path) -> None:
    """Have the channels in the backup closed by the other sides; what is restored already stays so. Raises Fault."""
    content = base64.b64encode(backup.read_bytes()).decode()
    lnd.call("POST", "/v1/channels/backup/restore", {"multi_chan_backup": content}, macaroon="admin")
    backup.unlink()


def check(stack: Stack, state: str, restore: bool, backup: Path) -> None:
    """Check that the secrets fit what is on the volumes. Raises Fault."""
    words, created = stack.secrets.get("lnd/recovery_words"), stack.secrets.get("lnd/wallet_created")
    if not words and (state != NO_WALLET or restore or backup.exists()):
        there = "a wallet" if state != NO_WALLET else "no wallet, but there has been one"
        raise Fault(
            f"its volume has {there}, and the secrets have no recovery words of it: put the newest copy of the secrets "
            "back, or add the words as lnd/recovery_words with `bcm secret edit`"
        )
    if state == NO_WALLET and (created or backup.exists()) and not restore:
        raise Fault(
            f"its wallet, created {created or 'earlier'}, is not on its volume. If the volume was lost, "
            "lnd_restore=true (-e) makes it again from its recovery words, and has its channels closed; if "
            "lnd_database was changed, change it back"
        )


def look(stack: Stack, restore: bool, end: float) -> dict[str, Any]:
    lnd = Lnd(stack, stack.expected["directory"])
    backup, restoring = Path(stack.expected["backup"]), Path(stack.expected["restore"])
    created, known = stack.secrets.get("lnd/wallet_created"), stack.secrets.get("lnd/public_key")
    state = reached(lnd, end, _GRACE)
    check(stack, state, restore, backup)
    made = state == NO_WALLET
    if made:
        if "lnd/recovery_words" not in stack.secrets:
            words = " ".join(lnd.call("GET", "/v1/genseed")["cipher_seed_mnemonic"])
            return {"keep": {"lnd/recovery_words": words}, "changed": False}
        # What is to be restored is put aside first, and stays there until all of it is.
        if restore and backup.exists():
            shutil.copy2(backup, restoring.with_suffix(".new"))
            restoring.with_suffix(".new").replace(restoring)
        create(lnd, stack, _RECOVERY_WINDOW if restore else 0)
    if made or restoring.exists():
        state = reached(lnd, end, end if restoring.exists() else _GRACE)
    keep = {} if created else {"lnd/wallet_created": datetime.now(UTC).isoformat(timespec="seconds")}
    if state != ACTIVE:
        return {"keep": keep, "changed": made}
    found = lnd.info()["identity_pubkey"]
    if known and found != known:
        raise Fault(f"its volume has the wallet of another node: {found}, not {known}; put the right volume back")
    changed = made or restoring.exists()
    if restoring.exists():
        restore_channels(lnd, restoring)
    return {"keep": keep if known else {**keep, "lnd/public_key": found}, "changed": changed}


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
