# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the wallet of lightningd, if there is none, before it is started, and say whose it is.

Without recovery words, it only answers with new ones: they are kept before a wallet is made of them. The words that
are kept come with the request only if it has said that it needs them. The secrets are
``clightning/recovery_words``, 12 words (BIP 39), ``clightning/wallet_created``, the time, and
``clightning/public_key``, the key of the node. What the program answers under ``keep`` is kept as secrets.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bcm_guest import static_channel_backup
from bcm_guest.clightning import Database, become
from bcm_guest.old_blocks import birth_height, check_old_blocks
from bcm_guest.prove import Fault, Refused, Stack, json_rpc

_DEADLINE = 60.0  # seconds for one program
_INTERVAL = 0.2  # seconds
#: statuses of bitcoind's answer to a user that it does not know, or that may not make a call
_UNKNOWN_USER = (401, 403)
#: answer while the words are not here
_WORDS_FIRST = {"changed": False, "needs_words": True}


def own(user: str, volumes: list[str]) -> None:
    """Give what is on the volumes to their user."""
    for path in volumes:
        foreign = ["(", "!", "-user", user, "-o", "!", "-group", user, ")"]
        give = ["-execdir", "chown", "--no-dereference", f"{user}:", "{}", "+"]
        subprocess.run(["find", path, "-xdev", *foreign, *give], check=True, timeout=_DEADLINE)


def run(*command: str, words: str = "") -> str:
    """What a program of Core Lightning prints. Raises Fault."""
    done = subprocess.run(command, input=words, capture_output=True, text=True, timeout=_DEADLINE, check=False)
    if done.returncode:
        raise Fault(f"{' '.join(command[:2])} failed: {done.stderr.strip() or f'it ended with {done.returncode}'}")
    return done.stdout.strip()


def new_words(network: str) -> str:
    """Words of a wallet that lightningd makes in memory; it ends because it has no way to bitcoind. Raises Fault."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as scratch:
        options = ["--offline", "--bitcoin-cli=/bin/false", f"--lightning-dir={scratch}", f"--network={network}"]
        done = subprocess.run(["lightningd", *options], capture_output=True, text=True, timeout=_DEADLINE, check=False)
        secret = Path(scratch) / network / "hsm_secret"
        if not secret.exists():
            raise Fault(f"lightningd made no wallet: {(done.stderr or done.stdout).strip()[-500:]}")
        return run("lightning-hsmtool", "getsecret", str(secret))


class Wallet:
    """The wallet on the volume, its database, and what the second volume has of both."""

    def __init__(self, expected: dict[str, Any]) -> None:
        self.network = expected["network"]
        self.directory = Path(expected["directory"])
        self.secret = self.directory / "hsm_secret"
        self.database = self.directory / "lightningd.sqlite3"
        #: lets lightningd make a database
        self.permission = self.directory / "new-database"
        #: channel backups whose channels have yet to be closed: of the second volume, and a copy
        self.restoring, self.restoring_copy = self.directory / "restoring", self.directory / "restoring-copy"
        self.recovery = self.directory / "emergency.recover"
        self.replica, self.saved_recovery = Path(expected["replica"]), Path(expected["recovery"])
        self.shown = Path(expected["shown"])

    def key(self) -> str:
        """The public key of the node. Raises Fault."""
        return run("lightning-hsmtool", "getnodeid", str(self.secret))

    def has_copy(self) -> bool:
        return self.replica.exists() or self.saved_recovery.exists()

    def channel_backups(self, copy: bytes) -> dict[str, bytes]:
        """What there is to restore, by where it is."""
        found = {"the copy": copy}
        if self.saved_recovery.exists():
            found[str(self.saved_recovery)] = self.saved_recovery.read_bytes()
        return {place: content for place, content in found.items() if content}

    def make(self, words: str, known: str | None) -> None:
        """Make the wallet of the words, whole or not at all, unless the node is known as another one. Raises Fault."""
        self.directory.mkdir(parents=True, exist_ok=True)
        fresh = self.directory / "hsm_secret.new"
        fresh.unlink(missing_ok=True)
        try:
            # The second line is the passphrase: none.
            run("lightning-hsmtool", "generatehsm", str(fresh), words=f"{' '.join(words.split())}\n\n")
        except Fault as fault:
            if "Invalid mnemonic" in str(fault):
                raise Fault("its recovery words are not valid: correct them with `bcm secret edit`") from fault
            raise
        key = run("lightning-hsmtool", "getnodeid", str(fresh))
        if known and key != known:
            fresh.unlink()
            raise Fault(
                f"its recovery words are of another node: {key}, not {known}; correct them with `bcm secret edit`"
            )
        fresh.rename(self.secret)

    def restore(self, seen: int, copy: bytes) -> None:
        """Bring back the replica, or, with a copy of the channel backup, have the channels closed. Raises Fault."""
        if self.replica.exists() and not copy:
            fresh = self.directory / "lightningd.sqlite3.new"
            fresh.unlink(missing_ok=True)
            Database(self.replica).copy(fresh, self.key(), seen)
            fresh.rename(self.database)
            return
        if self.replica.exists():
            self.replica.replace(f"{self.replica}.replaced")
        saved = self.saved_recovery.read_bytes() if self.saved_recovery.exists() else b""
        if saved or copy:
            # Before lightningd makes one of no channels, which would take its place on the second volume.
            self.recovery.unlink(missing_ok=True)
            self.recovery.write_bytes(saved or copy)
            self.restoring_copy.write_bytes(copy)
            self.restoring.write_bytes(saved)
        self.permission.touch()


def check_words(words: str, backups: Mapping[str, bytes]) -> None:
    """Check that the recovery words are of the node of these channel backups, where nothing else says it. Raises Fault.

    They are encrypted to it.
    """
    for place, content in backups.items():
        try:
            static_channel_backup.decrypted(content, static_channel_backup.secret_of(words))
        except ValueError as error:
            raise Fault(
                f"its recovery words are not of the node of its channel backup ({place}), or that is damaged; correct "
                "them with `bcm secret edit`, or, if they are right, add the key of the node as clightning/public_key"
            ) from error


def ask(stack: Stack, method: str, *params: Any) -> Any:
    """What bitcoind answers, which may be told of this user, and started for that, at the same time. Raises Fault."""
    credentials = f"{stack.name}:{stack.secret('bitcoind', 'rpc')}"
    end = time.monotonic() + _DEADLINE
    while True:
        try:
            return json_rpc(stack.need("bitcoind", "rpc"), method, params, credentials)
        except Fault as fault:
            if time.monotonic() > end or (isinstance(fault, Refused) and fault.status not in _UNKNOWN_USER):
                raise
        time.sleep(_INTERVAL)


def check_blocks(stack: Stack, replica: Path) -> None:
    """Check that bitcoind has the blocks that the replica knows: lightningd would wait for them. Raises Fault."""
    known, blocks = Database(replica).height(), int(ask(stack, "getblockchaininfo")["blocks"])
    if blocks < known:
        raise Fault(
            f"nothing was restored: bitcoind lacks blocks, it has {blocks}, and the replica knows {known}; restore "
            "again once it has them (`bcm status` shows them)"
        )


def check(wallet: Wallet, secrets: dict[str, str], has_words: bool, restore: bool) -> None:
    """Check that the secrets, and the chain, fit what is on the volumes. Raises Fault."""
    chains = {path.parent.name for path in wallet.directory.parent.glob(f"*/{wallet.secret.name}")}
    if others := ", ".join(sorted(chains - {wallet.network})):
        raise Fault(
            f"its volume has a wallet of {others}, and this data center is on {wallet.network}: put the right volume "
            "back; another chain is another data center"
        )
    created, known = secrets.get("clightning/wallet_created"), secrets.get("clightning/public_key")
    is_there = wallet.secret.exists()
    if not has_words and (is_there or restore or wallet.has_copy()):
        there = "a wallet" if is_there else "no wallet, but there has been one"
        raise Fault(
            f"its volume has {there}, and the secrets have no recovery words of it: put the newest copy of the secrets "
            "back, or add the words as clightning/recovery_words with `bcm secret edit`"
        )
    if is_there and known and (found := wallet.key()) != known:
        raise Fault(f"its volume has the wallet of another node: {found}, not {known}; put the right volume back")
    if not is_there and (created or wallet.has_copy() or wallet.database.exists()) and not restore:
        raise Fault(
            f"its wallet, created {created or 'earlier'}, is not on its volume. If the volume was lost, "
            "`bcm lightning restore clightning` makes it again from its recovery words and the replica of its database"
        )
    if not is_there and wallet.database.exists():
        raise Fault(
            f"its volume has a database, {wallet.database}, and no wallet: put {wallet.secret} back, or remove what is "
            "left in that directory"
        )
    if is_there and created and not wallet.database.exists() and not wallet.permission.exists() and not restore:
        raise Fault(
            f"its volume has a wallet, created {created}, and no database of its channels; "
            "`bcm lightning restore clightning` brings the replica back"
        )


def look(stack: Stack, has_words: bool, restore: bool, copy: bytes) -> dict[str, Any]:
    shown = Path(stack.expected["shown"])
    seen = int(shown.read_text(encoding="ascii")) if shown.exists() else 0
    if (plugin := stack.expected["grpc"]) and not Path(plugin).exists():
        raise Fault(
            f"clightning_grpc is true, and its release has no {Path(plugin).name}: set it to false, or take a release "
            "with that plugin"
        )
    own(stack.bcm["user"], [volume["path"] for volume in stack.bcm["volumes"].values()])
    become(stack.bcm["user"])
    wallet = Wallet(dict(stack.expected))
    secrets = dict(stack.secrets)
    check(wallet, secrets, has_words, restore)
    if copy and wallet.database.exists() and not wallet.restoring.exists():
        raise Fault(
            "its database is on its volume, so nothing was restored: a restore from a copy closes all channels. If it "
            "does not work, remove the stack with its data first (`bcm stack remove clightning --delete-data`)"
        )
    has_wallet, has_database = wallet.secret.exists(), wallet.database.exists() or wallet.permission.exists()
    rescan = 0
    if not has_database and restore:
        if not copy and wallet.replica.exists():
            check_blocks(stack, wallet.replica)
        else:
            bitcoind = partial(ask, stack)
            created = secrets.get("clightning/wallet_created")
            rescan = stack.expected["rescan"] or birth_height(bitcoind, created)
            check_old_blocks(bitcoind, rescan)
    if not has_wallet:
        if not has_words:
            return {"keep": {"clightning/recovery_words": new_words(wallet.network)}, **_WORDS_FIRST}
        if "clightning/recovery_words" not in secrets:
            return {"keep": {}, **_WORDS_FIRST}
        known = secrets.get("clightning/public_key")
        if not known and not copy and wallet.replica.exists():
            known = Database(wallet.replica).node()
        elif not known:
            check_words(secrets["clightning/recovery_words"], wallet.channel_backups(copy))
        # Before the database: if this is interrupted, the next run completes it.
        wallet.make(secrets["clightning/recovery_words"], known)
    if not has_database and restore:
        wallet.restore(seen, copy)
    elif not has_database:
        wallet.permission.touch()
    keep = {}
    if "clightning/wallet_created" not in secrets:
        keep["clightning/wallet_created"] = datetime.now(UTC).isoformat(timespec="seconds")
    if "clightning/public_key" not in secrets:
        keep["clightning/public_key"] = wallet.key()
    return {"keep": keep, "changed": not (has_wallet and has_database), "needs_words": False, "rescan": rescan}


def main() -> None:
    request = json.load(sys.stdin)
    stack = Stack(request["bcm"], request["secrets"], request["expected"])
    try:
        answer = look(stack, request["has_words"], request["restore"], base64.b64decode(request["copy"]))
    except Fault as fault:
        raise SystemExit(f"clightning: {fault}") from fault
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
