# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make lnd's wallet, if there is none, let lnd open it by itself from then on, and check whose wallet it is.

Then, apply what lnd keeps in its database and not in its configuration: its addresses, and its watchtowers.

The recovery words come only if they were asked for: the answer ``needs_words`` does that. If there are none yet, it has
new ones, which are kept before a wallet is made of them. The secrets are ``lnd/recovery_words``, 24 words (aezeed),
``lnd/wallet_created``, the time, and ``lnd/public_key``, the key of the node. What the answer has under ``keep`` is
kept as secrets.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bcm_guest.lnd import ACTIVE, CURRENT, LOCKED, NO_WALLET, WAITING, Lnd
from bcm_guest.old_blocks import birth_height, check_old_blocks
from bcm_guest.prove import Endpoint, Fault, Lasting, Refused, Stack, http_request, json_rpc
from bcm_guest.volume_files import read_file, remove_file, write_file

_INTERVAL = 0.2  # seconds
#: the databases of wallets that are files
_WALLETS = ("wallet.db", "chain.sqlite")
# Addresses of each kind that are looked for on chain: those after a gap of so many unused ones are not found.
_RECOVERY_WINDOW = 2500
# From when it waits for blocks until it works, if bitcoind has them.
_GRACE = 5.0  # seconds
# Its words say the day on which it was made, and it begins two days before that.
_SEARCHED_BEFORE = 3 * 86400.0  # seconds
#: where the node has its key, in the terms of lnd's keychain
_NODE_KEY = {"key_family": 6, "key_index": 0}


class Wallet:
    """The wallet of the lnd in this instance. ``end`` is when to give up, in seconds of the monotonic clock."""

    def __init__(self, stack: Stack, *, has_words: bool, restore: bool, copy: str, end: float) -> None:
        self._stack = stack
        self._has_words = has_words
        self._restore = restore
        self._copy = base64.b64decode(copy)
        self._end = end
        self._lnd = Lnd(stack, stack.expected["directory"])
        self._opens, self._backup, self._restoring = (
            Path(stack.expected[name]) for name in ("opens", "backup", "restore")
        )
        self._restoring_copy = Path(f"{self._restoring}-copy")
        #: the digest of the copy that was restored last
        self._restored = Path(f"{self._restoring}-done")

    def make_ready(self) -> dict[str, Any]:
        """Make it if it is missing, open it, and finish what an interrupted run began. Raises Fault."""
        state = self._wait_for_state(_GRACE)
        self._check(state)
        keep: dict[str, str] = {}
        if (is_missing := state == NO_WALLET) and "lnd/recovery_words" not in self._stack.secrets:
            if not self._has_words:
                keep["lnd/recovery_words"] = " ".join(self._lnd.call("GET", "/v1/genseed")["cipher_seed_mnemonic"])
            return {"needs_words": True, "keep": keep, "changed": False}
        if is_missing:
            self._check_words()
            if self._restore:
                self._put_backup_aside()
            self._create()
        elif state == LOCKED:
            self._unlock()
        changed = is_missing or state == LOCKED
        if "lnd/wallet_created" not in self._stack.secrets:
            keep["lnd/wallet_created"] = datetime.now(UTC).isoformat(timespec="seconds")
        if not self._opens.exists():
            changed = True
            # If lnd is started again while it searches the chain for a restored wallet, it does not go on with that.
            state = self._wait_for_state(self._end if self._restoring.exists() else _GRACE)
            if state == ACTIVE or not self._restoring.exists():
                write_file(self._opens, b"")
        if self._opens.exists() and not self._is_reached():
            changed = True
            self._restart()
        state = self._wait_for_state(self._end if self._restoring.exists() else _GRACE)
        if state != ACTIVE:
            return {"needs_words": False, "keep": keep, "changed": changed}
        key, known = self._lnd.info()["identity_pubkey"], self._stack.secrets.get("lnd/public_key")
        if known and key != known:
            raise Fault(f"its volume has the wallet of another node: {key}, not {known}; put the right volume back")
        if not known:
            keep["lnd/public_key"] = key
        if self._restoring.exists():
            changed = True
            self._restore_channels()
        # While it waits for blocks, it keeps what it has; the next run finds it at work.
        changed |= self._lnd.forget_addresses(self._stack.expected["onion"])
        # Without any, its watchtower client is off.
        if watchtowers := self._stack.expected["watchtowers"]:
            changed |= self._lnd.use_watchtowers(watchtowers)
        return {"needs_words": False, "keep": keep, "changed": changed}

    def _wait_for_state(self, grace: float) -> str:
        """Return the state that lnd comes to: no wallet, locked for good, at work, or waiting for blocks.

        As long as bitcoind lacks blocks, which may last for days, it waits for them. Raises Fault at the end.
        """
        waits_until = None
        while True:
            try:
                state = self._lnd.state()
                fault = Fault(f"its wallet is not open; its state is {state}")
            except Fault as error:
                state, fault = "", error
            now = time.monotonic()
            if state == WAITING and waits_until is None:
                waits_until = now if self._lacks_blocks() else min(now + grace, self._end)
            if state in (NO_WALLET, ACTIVE) or (state == LOCKED and not self._opens.exists()):
                return state
            if state == WAITING and waits_until is not None and now >= waits_until:
                return state
            if now > self._end:
                raise fault
            time.sleep(_INTERVAL)

    def _check(self, state: str) -> None:
        """Check that the secrets, and the chain, fit what is on the volumes. Raises Fault."""
        own = Path(self._stack.expected["directory"])
        chains = {path.parent.name for name in _WALLETS for path in own.parent.glob(f"*/{name}")}
        if others := ", ".join(sorted(chains - {own.name})):
            raise Lasting(
                f"its volume has a wallet of {others}, and this data center is on {own.name}: put the right volume "
                "back; another chain is another data center"
            )
        created = self._stack.secrets.get("lnd/wallet_created")
        has_wallet, has_run = state != NO_WALLET, self._backup.exists()
        if not self._has_words and (has_wallet or self._restore or has_run):
            what = "a wallet" if has_wallet else "no wallet, but there has been one"
            raise Fault(
                f"its volume has {what}, and the secrets have no recovery words of it: put the newest copy of the "
                "secrets back, or add the words as lnd/recovery_words with `bcm secret edit`"
            )
        if not has_wallet and (created or has_run) and not self._restore:
            raise Fault(
                f"its wallet, created {created or 'earlier'}, is not on its volume. If the volume was lost, "
                "lnd_restore=true (-e) makes it again from its recovery words, and has its channels closed; if "
                "lnd_database was changed, change it back"
            )
        if has_wallet and self._copy and not self._restoring.exists() and not self._is_restored():
            raise Fault(
                "its wallet is on its volume, so nothing was restored: a restore closes all channels. If the wallet "
                "does not work, remove the stack with its data first (`bcm stack remove lnd --delete-data`)"
            )
        if self._restore and not self._opens.exists():
            self._check_blocks()

    def _check_blocks(self) -> None:
        """Check that bitcoind has the blocks that a restore searches: lnd would wait for them. Raises Fault."""
        chain = self._ask("getblockchaininfo")
        if is_current(chain):
            if chain.get("pruned"):
                created = self._stack.secrets.get("lnd/wallet_created")
                check_old_blocks(self._ask, birth_height(self._ask, created, _SEARCHED_BEFORE))
            return
        is_test = self._stack.bcm["chain"] == "regtest"
        newest = datetime.fromtimestamp(chain["time"], UTC).isoformat(timespec="seconds")
        how = "`bcm bitcoin-cli generatetodescriptor 1 'raw(51)'` mines one" if is_test else "`bcm status` shows them"
        raise Lasting(
            f"nothing was restored: bitcoind lacks blocks to search for coins, its newest is block {chain['blocks']} "
            f"of {newest}; restore again once it has those of today ({how})"
        )

    def _ask(self, method: str, *params: Any) -> Any:
        """What bitcoind answers. Raises Fault."""
        credentials = f"lnd:{self._stack.secret('bitcoind', 'rpc')}"
        return json_rpc(self._stack.need("bitcoind", "rpc"), method, params, credentials)

    def _lacks_blocks(self) -> bool:
        """Whether bitcoind lacks blocks for which lnd waits; not if it does not answer, since it starts then."""
        try:
            return not is_current(self._ask("getblockchaininfo"))
        except Fault:
            return False

    def _put_backup_aside(self) -> None:
        """Keep what is to be restored until all of it is, even if there is no channel.

        The copy of a backup may lack channels that the second volume has, and the other way round.
        """
        if self._copy:
            write_file(self._restoring_copy, self._copy)
        content = read_file(self._backup) if self._backup.exists() else b""
        if content or not self._restoring.exists():
            write_file(self._restoring, content)

    def _is_restored(self) -> bool:
        """Whether the copy has been restored already: the run that began it was interrupted after that."""
        return self._restored.exists() and read_file(self._restored) == _digest(self._copy)

    def _password(self) -> str:
        return _encoded(self._stack.secrets["lnd/wallet_password"].encode())

    def _check_words(self) -> None:
        """Check, before anything is made of them, that the words are of the node that is known. Raises Fault.

        If its key is not among the secrets, it is known by what is to be restored: a channel backup is encrypted to it.
        """
        known = self._stack.secrets.get("lnd/public_key")
        saved = read_file(self._backup) if self._backup.exists() else b""
        backups = [] if known else [content for content in (self._copy, saved) if content]
        if not known and not backups:
            return
        key = node_of(self._stack, backups, self._end)
        if known and key != known:
            raise Lasting(
                f"its recovery words are of another node: {key}, not {known}; correct them with `bcm secret edit`"
            )

    def _create(self) -> None:
        words = self._stack.secrets["lnd/recovery_words"].split()
        make_wallet(self._lnd, words, self._password(), _RECOVERY_WINDOW if self._restore else 0)

    def _unlock(self) -> None:
        """Open a wallet that lnd does not open by itself: whoever made or restored it was interrupted."""
        body = {"wallet_password": self._password(), "recovery_window": _RECOVERY_WINDOW}
        self._lnd.call("POST", "/v1/unlockwallet", body)

    def _is_reached(self) -> bool:
        """Whether other stacks can connect."""
        try:
            http_request(self._stack.service("rest"), path="/v1/state")
        except Fault:
            return False
        return True

    def _restart(self) -> None:
        left = max(self._end - time.monotonic(), 1.0)
        try:
            subprocess.run(["systemctl", "restart", "lnd"], check=True, capture_output=True, timeout=left)
        except subprocess.SubprocessError as error:
            raise Fault("it does not start again with its wallet: see `bcm logs lnd`") from error

    def _restore_channels(self) -> None:
        """Have the channels in the backup closed by the other sides; what is restored already stays so."""
        # The second says that something is to be restored, and goes last.
        for path in (self._restoring_copy, self._restoring):
            if path.exists():
                if content := read_file(path):
                    body = {"multi_chan_backup": base64.b64encode(content).decode()}
                    self._lnd.call("POST", "/v1/channels/backup/restore", body, macaroon="admin")
                if path == self._restoring_copy:
                    write_file(self._restored, _digest(content))
                remove_file(path)


def is_current(chain: Mapping[str, Any]) -> bool:
    """Whether lnd takes the chain of bitcoind for complete, and so begins its work once it has these blocks."""
    return time.time() - float(chain["time"]) <= CURRENT


def make_wallet(lnd: Lnd, words: list[str], password: str, window: int) -> None:
    """Have an lnd make its wallet. Raises Lasting if the words are not valid, and Fault."""
    body = {"wallet_password": password, "cipher_seed_mnemonic": words, "recovery_window": window}
    try:
        lnd.call("POST", "/v1/initwallet", body)
    except Refused as error:
        # lnd says that the checksum or the passphrase is wrong, or names a word that is not in its list.
        if any(word in str(error) for word in ("checksum", "passphrase", *words)):
            raise Lasting("its recovery words are not valid: correct them with `bcm secret edit`") from None
        raise


def node_of(stack: Stack, backups: Sequence[bytes], end: float) -> str:
    """The public key of the node of the recovery words, in hexadecimal digits.

    Another lnd says it, which has its wallet in memory, no chain and no peers. ``end`` is when to give up, in seconds
    of the monotonic clock. Raises Lasting if a channel backup is of another node, and Fault.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        place, other = (Endpoint("127.0.0.1", port) for port in free_ports(2))
        network = Path(stack.expected["directory"]).name
        options = [f"--lnddir={folder}", f"--bitcoin.{network}", "--bitcoin.node=nochainbackend", "--nolisten"]
        options += ["--no-macaroons", "--no-rest-tls", f"--restlisten={place}", f"--rpclisten={other}"]
        # It ends with this program, however that ends.
        command = ["setpriv", "--pdeathsig=KILL", "lnd", *options]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                lnd = Lnd(stack, folder, place)
                _await_state(lnd, process, (NO_WALLET,), end)
                make_wallet(lnd, stack.secrets["lnd/recovery_words"].split(), _encoded(os.urandom(32)), 0)
                _await_state(lnd, process, (WAITING, ACTIVE), end)
                found = lnd.call("POST", "/v2/wallet/key", _NODE_KEY)["raw_key_bytes"]
                check_backups(lnd, backups)
            finally:
                process.kill()
    return base64.b64decode(found).hex()


def check_backups(lnd: Lnd, backups: Sequence[bytes]) -> None:
    """Check that these channel backups are of the node of an lnd. Raises Lasting, and Fault."""
    for content in backups:
        body = {"multi_chan_backup": {"multi_chan_backup": _encoded(content)}}
        try:
            lnd.call("POST", "/v1/channels/backup/verify", body)
        except Refused as error:
            raise Lasting(
                f"its recovery words are not of the node of its channel backup, or that is damaged: {error}; correct "
                "them with `bcm secret edit`, or, if they are right, add the key of the node as lnd/public_key"
            ) from error


def free_ports(count: int) -> list[int]:
    """Ports of loopback at which nothing listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _number in range(count)]
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def _await_state(lnd: Lnd, process: subprocess.Popen[bytes], wanted: tuple[str, ...], end: float) -> None:
    while True:
        try:
            if (state := lnd.state()) in wanted:
                return
            fault = Fault(f"which node its recovery words are of is not known: another lnd stays in state {state}")
        except Fault as error:
            fault = error
        if process.poll() is not None:
            raise Fault(f"which node its recovery words are of is not known: lnd ended with {process.returncode}")
        if time.monotonic() > end:
            raise fault
        time.sleep(_INTERVAL)


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()


def main() -> None:
    request = json.load(sys.stdin)
    try:
        answer = Wallet(
            Stack(request["bcm"], request["secrets"], request["expected"]),
            has_words=request["has_words"],
            restore=request["restore"],
            copy=request["copy"],
            end=time.monotonic() + request["deadline"],
        ).make_ready()
    except (Fault, OSError) as error:
        raise SystemExit(f"lnd: {error}") from error
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
