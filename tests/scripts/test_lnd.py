# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the role lnd, with an lnd that says what a test wants. tests/e2e has the real one."""

from __future__ import annotations

import base64
import io
import json
import runpy
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import lnd as client
from tests.support import COLLECTION

SCRIPTS = COLLECTION / "roles/lnd/scripts"
KEY, TOWER = "02" * 33, f"{'03' * 33}@{'a' * 56}.onion:9911"
WORDS = " ".join(f"abandon{number}" for number in range(24))


class Lnd:
    """An lnd with a wallet or none, in one of its states, and what it was asked for."""

    def __init__(self, volume: Path, state: str) -> None:
        self.opens, self.backup, self.restoring = volume / "opens", volume / "channel.backup", volume / "restore"
        self.directory = volume / "bitcoin/regtest"
        self.now = state
        self.asked: list[tuple[str, str]] = []
        self.sent: list[Mapping[str, Any]] = []
        #: what becomes of it once its wallet is open
        self.then = "SERVER_ACTIVE"
        self.uris: list[str] = []
        self.used: list[str] = []

    def __call__(self, stack: Any, directory: str) -> Lnd:
        return self

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, macaroon: str = "") -> Any:
        self.asked.append((method, path.partition("?")[0]))
        self.sent.append(body or {})
        if path in ("/v1/initwallet", "/v1/unlockwallet"):
            self.now = self.then
        return {"cipher_seed_mnemonic": WORDS.split()}

    def state(self) -> str:
        return self.now

    def info(self) -> dict[str, Any]:
        return {"identity_pubkey": KEY, "uris": self.uris}

    def watchtowers(self) -> list[str]:
        return self.used

    forget_addresses = client.Lnd.forget_addresses
    use_watchtowers = client.Lnd.use_watchtowers


class Wallet:
    """The program, its lnd, and how often it started that again."""

    def __init__(self, volume: Path, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lnd = Lnd(volume, state)
        self.restarts = 0
        #: the time of bitcoind's newest block
        self.newest = time.time()
        #: the first block that bitcoind has kept, if it has dropped any
        self.kept = 0
        self.wanted_watchtowers: list[str] = []
        #: when it gives up; in the past, it does not wait
        self.end = 0.0
        self._script = runpy.run_path(str(SCRIPTS / "wallet.py"))
        own = self._script["Wallet"]
        #: the variables of the program
        self.program = own.make_ready.__globals__
        monkeypatch.setitem(self.program, "Lnd", self.lnd)
        monkeypatch.setitem(self.program, "_GRACE", 0.0)
        monkeypatch.setitem(self.program, "json_rpc", self._chain)
        monkeypatch.setitem(self.program, "node_of", self._node_of)
        monkeypatch.setattr(own, "_is_reached", lambda wallet: self.restarts > 0)
        monkeypatch.setattr(own, "_restart", lambda wallet: self._restart())

    def _chain(self, _place: Any, method: str, *_more: Any) -> Any:
        pruned = {"pruned": True, "pruneheight": self.kept} if self.kept else {}
        answers: dict[str, Any] = {
            "getblockchaininfo": {"time": self.newest, "blocks": 7, **pruned},
            "getblockheader": {"mediantime": self.newest},
        }
        return answers.get(method, [])

    def _node_of(self, _stack: Any, backups: list[bytes], _end: float) -> str:
        self.program["check_backups"](self.lnd, backups)
        return KEY

    def _restart(self) -> None:
        assert self.lnd.opens.exists()
        self.restarts += 1

    def run(
        self, secrets: Mapping[str, str], *, has_words: bool, restore: bool = False, copy: str = ""
    ) -> dict[str, Any]:
        stack = self._script["Stack"]
        settings: dict[str, Any] = {"onion": None, "watchtowers": self.wanted_watchtowers}
        names = {"opens": self.lnd.opens, "backup": self.lnd.backup, "restore": self.lnd.restoring}
        paths = {"directory": self.lnd.directory, **names}
        expected = settings | {name: str(path) for name, path in paths.items()}
        bitcoind = {"rpc": {"address": "10.0.0.2", "port": 8332, "tls": None}}
        bcm = {"stack": "lnd", "chain": "regtest", "needs": {"bitcoind": bitcoind}}
        own = {"lnd/wallet_password": "secret", "bitcoind/rpc/lnd": "secret"}
        known = stack(bcm, {**own, **secrets}, expected)
        wallet = self._script["Wallet"](known, has_words=has_words, restore=restore, copy=copy, end=self.end)
        return dict(wallet.make_ready())

    @property
    def fault(self) -> type[Exception]:
        return self._script["Fault"]  # type: ignore[no-any-return]


def test_wallet_is_made_of_words_that_are_kept_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others reach lnd only once it has its wallet."""
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    first = wallet.run({}, has_words=False)
    assert first == {"needs_words": True, "keep": {"lnd/recovery_words": WORDS}, "changed": False}
    assert (wallet.lnd.asked, wallet.restarts) == ([("GET", "/v1/genseed")], 0)
    made = wallet.run({"lnd/recovery_words": WORDS}, has_words=True)
    assert wallet.lnd.asked[1:] == [("POST", "/v1/initwallet")]
    assert wallet.lnd.sent[1]["recovery_window"] == 0
    assert (made["keep"]["lnd/public_key"], made["changed"], wallet.restarts) == (KEY, True, 1)
    secrets = {**made["keep"]}
    again = wallet.run(secrets, has_words=True)
    assert again == {"needs_words": False, "keep": {}, "changed": False}
    assert wallet.restarts == 1


def test_run_applies_what_lnd_keeps_in_its_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = Wallet(tmp_path, "SERVER_ACTIVE", monkeypatch)
    wallet.run({}, has_words=True)
    known = {"lnd/wallet_created": "2026-01-01", "lnd/public_key": KEY}
    assert wallet.run(known, has_words=True)["changed"] is False
    wallet.lnd.uris, wallet.wanted_watchtowers = [f"{KEY}@a.onion:9735"], [TOWER]
    assert wallet.run(known, has_words=True)["changed"] is True
    assert wallet.lnd.asked == [("POST", "/v2/peers/nodeannouncement"), ("POST", "/v2/watchtower/client")]


def test_words_are_asked_for_only_to_make_a_wallet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    assert wallet.run({}, has_words=True) == {"needs_words": True, "keep": {}, "changed": False}
    assert wallet.lnd.asked == []
    open_one = Wallet(tmp_path, "SERVER_ACTIVE", monkeypatch)
    assert open_one.run({}, has_words=True)["needs_words"] is False


def test_new_wallet_is_opened_to_others_while_it_waits_for_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    wallet.lnd.then = "RPC_ACTIVE"
    made = wallet.run({"lnd/recovery_words": WORDS}, has_words=True)
    assert (set(made["keep"]), wallet.restarts) == ({"lnd/wallet_created"}, 1)


def test_nothing_is_awaited_that_blocks_which_bitcoind_lacks_would_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an empty chain, lnd never gets to work."""
    wallet = Wallet(tmp_path, "RPC_ACTIVE", monkeypatch)
    wallet.lnd.opens.touch()
    known = {"lnd/wallet_created": "2026-01-01", "lnd/public_key": KEY}
    wallet.restarts, waits = 1, []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setitem(wallet.program, "_GRACE", 0.001)
    wallet.end = time.monotonic() + 100
    wallet.run(known, has_words=True)
    assert waits, "it works soon, if bitcoind has today's blocks"
    wallet.newest, waits[:] = 1_300_000_000, []
    assert wallet.run(known, has_words=True)["changed"] is False
    assert waits == []


def test_restore_is_not_interrupted_while_it_searches_the_chain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lnd would not go on with that after a start."""
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    wallet.lnd.backup.write_bytes(b"channels")
    wallet.lnd.then = "RPC_ACTIVE"
    secrets = {"lnd/recovery_words": WORDS, "lnd/wallet_created": "2026-01-01", "lnd/public_key": KEY}
    wallet.run(secrets, has_words=True, restore=True)
    assert wallet.lnd.sent[0]["recovery_window"] == 2500
    assert (wallet.restarts, wallet.lnd.opens.exists(), wallet.lnd.restoring.read_bytes()) == (0, False, b"channels")

    # The machine starts again: lnd stays locked, and the next run has it search on.
    wallet.lnd.now, wallet.lnd.then = "LOCKED", "SERVER_ACTIVE"
    done = wallet.run(secrets, has_words=True)
    assert wallet.lnd.asked[1:] == [("POST", "/v1/unlockwallet"), ("POST", "/v1/channels/backup/restore")]
    assert wallet.lnd.sent[1]["recovery_window"] == 2500
    assert wallet.lnd.sent[2] == {"multi_chan_backup": base64.b64encode(b"channels").decode()}
    assert (done["changed"], wallet.restarts, wallet.lnd.restoring.exists()) == (True, 1, False)


def test_restore_without_channels_is_finished_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    wallet.lnd.then = "RPC_ACTIVE"
    secrets = {"lnd/recovery_words": WORDS, "lnd/wallet_created": "2026-01-01"}
    wallet.run(secrets, has_words=True, restore=True)
    assert not wallet.lnd.opens.exists()
    wallet.lnd.now = "SERVER_ACTIVE"
    wallet.run(secrets, has_words=True)
    assert [path for _method, path in wallet.lnd.asked] == ["/v1/initwallet"]
    assert (wallet.lnd.restoring.exists(), wallet.lnd.opens.exists()) == (False, True)


def test_restore_is_refused_as_long_as_bitcoind_lacks_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lnd would wait for them; a restore that began before goes on once they are there."""
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    wallet.newest = 1_300_000_000
    secrets = {"lnd/recovery_words": WORDS, "lnd/wallet_created": "2026-01-01"}
    fault = r"nothing was restored: bitcoind lacks blocks .* block 7 of 2011-03-13T07:06:40\+00:00"
    for wallet.lnd.now in ("NON_EXISTING", "LOCKED"):
        with pytest.raises(wallet.fault, match=fault):
            wallet.run(secrets, has_words=True, restore=True)
        assert (wallet.lnd.asked, wallet.lnd.restoring.exists()) == ([], False)
    wallet.lnd.opens.touch()
    wallet.lnd.now = "SERVER_ACTIVE"
    wallet.run(secrets, has_words=True, restore=True)


def test_restore_is_refused_if_nobody_has_the_old_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lnd would ask for them forever."""
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    wallet.kept = 5
    secrets = {"lnd/recovery_words": WORDS, "lnd/wallet_created": "2026-01-01T00:00:00+00:00"}
    with pytest.raises(wallet.fault, match="nothing was restored: bitcoind has dropped the blocks before 5"):
        wallet.run(secrets, has_words=True, restore=True)
    assert (wallet.lnd.asked, wallet.lnd.restoring.exists()) == ([], False)
    # A new wallet has no coins to look for.
    wallet.run({"lnd/recovery_words": WORDS}, has_words=True)


def test_unfinished_restore_keeps_the_channels_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    wallet.lnd.restoring.write_bytes(b"channels")
    wallet.lnd.then = "RPC_ACTIVE"
    wallet.run({"lnd/recovery_words": WORDS}, has_words=True, restore=True)
    assert wallet.lnd.restoring.read_bytes() == b"channels"


def test_restore_that_was_done_is_done_again_by_the_same_copy_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that began it was killed, and its program in the instance went on."""
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    secrets = {"lnd/recovery_words": WORDS, "lnd/wallet_created": "2026-01-01", "lnd/public_key": KEY}
    copy, other = (base64.b64encode(content).decode() for content in (b"channels", b"other channels"))
    for _again in range(2):
        wallet.run(secrets, has_words=True, restore=True, copy=copy)
        assert [path for _method, path in wallet.lnd.asked] == ["/v1/initwallet", "/v1/channels/backup/restore"]
    with pytest.raises(wallet.fault, match="its wallet is on its volume, so nothing was restored"):
        wallet.run(secrets, has_words=True, restore=True, copy=other)


@pytest.mark.parametrize(
    ("state", "secrets", "has_words", "restore", "fault"),
    [
        ("SERVER_ACTIVE", {}, False, False, "its volume has a wallet, and the secrets have no recovery words of it"),
        ("NON_EXISTING", {}, False, True, "its volume has no wallet, but there has been one"),
        ("NON_EXISTING", {"lnd/wallet_created": "2026-01-01"}, True, False, "created 2026-01-01, is not on its volume"),
        ("SERVER_ACTIVE", {"lnd/public_key": "03" * 33}, True, False, "its volume has the wallet of another node"),
        ("LOCKED", {}, False, False, "its volume has a wallet, and the secrets have no recovery words of it"),
    ],
)
def test_wallet_that_does_not_fit_the_secrets_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    secrets: dict[str, str],
    has_words: bool,
    restore: bool,
    fault: str,
) -> None:
    wallet = Wallet(tmp_path, state, monkeypatch)
    with pytest.raises(wallet.fault, match=fault):
        wallet.run(secrets, has_words=has_words, restore=restore)
    assert wallet.lnd.asked == []


def test_words_of_another_node_are_refused_before_a_wallet_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    wallet.lnd.backup.write_bytes(b"channels")
    secrets = {"lnd/recovery_words": WORDS, "lnd/wallet_created": "2026-01-01", "lnd/public_key": "03" * 33}
    fault = f"its recovery words are of another node: {KEY}, not {'03' * 33}"
    with pytest.raises(wallet.fault, match=fault):
        wallet.run(secrets, has_words=True, restore=True)
    assert (wallet.lnd.asked, wallet.lnd.restoring.exists()) == ([], False)


def test_words_of_another_node_than_that_of_a_channel_backup_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The secrets are an older copy, or were typed again, and have no key of the node."""
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    wallet.lnd.backup.write_bytes(b"channels")
    own, refused = wallet.lnd.call, wallet.program["Refused"]

    def call(method: str, path: str, body: Mapping[str, Any] | None = None, macaroon: str = "") -> Any:
        answer = own(method, path, body, macaroon)
        if path == "/v1/channels/backup/verify" and base64.b64encode(b"channels").decode() in str(body):
            raise refused("unable to unpack", 500)
        return answer

    secrets = {"lnd/recovery_words": WORDS, "lnd/wallet_created": "2026-01-01T00:00:00+00:00"}
    with monkeypatch.context() as context:
        context.setattr(wallet.lnd, "call", call)
        with pytest.raises(wallet.fault, match="its recovery words are not of the node of its channel backup"):
            wallet.run(secrets, has_words=True, restore=True)
    verified = [("POST", "/v1/channels/backup/verify")]
    assert (wallet.lnd.asked, wallet.lnd.restoring.exists()) == (verified, False)
    # Both, the copy first.
    wallet.run(secrets, has_words=True, restore=True, copy=base64.b64encode(b"copy").decode())
    assert wallet.lnd.asked[1:4] == [*verified, *verified, ("POST", "/v1/initwallet")]


@pytest.mark.parametrize("database", ["wallet.db", "chain.sqlite"])
def test_volume_with_a_wallet_of_another_chain_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """There is no wallet for lnd then, and it would make one."""
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    for chain in ("regtest", "testnet4"):
        (tmp_path / "bitcoin" / chain).mkdir(parents=True)
    (tmp_path / "bitcoin/regtest" / database).touch()
    assert wallet.run({}, has_words=False)["needs_words"]
    (tmp_path / "bitcoin/testnet4" / database).touch()
    with pytest.raises(wallet.fault, match="its volume has a wallet of testnet4, and this data center is on regtest"):
        wallet.run({}, has_words=False)


def test_words_are_in_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet = Wallet(tmp_path, "NON_EXISTING", monkeypatch)
    refused = wallet._script["Refused"]

    def call(*_words: Any, **_more: Any) -> None:
        raise refused("it answers /v1/initwallet with an error: word abandon7 isn't a part of default word list", 500)

    monkeypatch.setattr(wallet.lnd, "call", call)
    with pytest.raises(wallet.fault, match="its recovery words are not valid") as raised:
        wallet.run({"lnd/recovery_words": WORDS}, has_words=True)
    assert "abandon7" not in str(raised.value)


def test_addresses_that_are_no_longer_wanted_are_forgotten(tmp_path: Path) -> None:
    lnd = Lnd(tmp_path, "SERVER_ACTIVE")
    assert lnd.forget_addresses(None) is False
    lnd.uris = [f"{KEY}@a.onion:9735", f"{KEY}@b.onion:9735"]
    assert lnd.forget_addresses("b.onion:9735") is True
    assert lnd.sent == [{"address_updates": [{"action": "REMOVE", "address": "a.onion:9735"}]}]


def test_watchtowers_become_those_that_are_named(tmp_path: Path) -> None:
    lnd = Lnd(tmp_path, "SERVER_ACTIVE")
    lnd.used = [TOWER]
    assert lnd.use_watchtowers([TOWER]) is False
    moved = TOWER.replace(":9911", ":9912")
    assert lnd.use_watchtowers([moved]) is True
    path = "/v2/watchtower/client/" + base64.urlsafe_b64encode(b"\3" * 33).decode()
    assert lnd.asked == [("POST", "/v2/watchtower/client"), ("DELETE", path)]
    assert lnd.sent[0] == {"pubkey": base64.b64encode(b"\3" * 33).decode(), "address": moved.partition("@")[2]}


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("bcm_guest.prove.prove", lambda look: None)
    return runpy.run_path(str(SCRIPTS / "verify.py"))


def test_silence_of_bitcoind_is_told_from_catching_up(verify: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The height that lnd reports is bitcoind's own: the time of its newest block says how far it is."""
    check, now = verify["check_messages"], 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for newest in (1_800_000_000, 1_800_000_100, 1_800_000_200):
        with pytest.raises(verify["Waiting"], match="has not followed the chain to its tip yet"):
            check(newest, 1_800_000_600, 1_800_000_000.0)
        now += 15
    fault = (
        r"its newest block is of 2027-01-15T08:03:20\+00:00, bitcoind's of 2027-01-15T08:10:00\+00:00, and no more come"
        r".*ZMQ.*`bcm stack restart bitcoind lnd`"
    )
    now += 10
    with pytest.raises(verify["Lasting"], match=fault):
        check(1_800_000_200, 1_800_000_600, 1_800_000_000.0)


def test_block_that_came_as_bitcoind_started_is_no_silence(
    verify: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """lnd had not found bitcoind again when it came, and hears of it with the next one."""
    now, start = 1000.0, 1_800_000_590.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(verify["Waiting"]):
        verify["check_messages"](1_800_000_200, 1_800_000_600, start)
    now += 25
    warning = verify["check_messages"](1_800_000_200, 1_800_000_600, start)
    assert "it missed one when bitcoind started, and follows with the next; `bcm stack restart lnd` does" in warning
    with pytest.raises(verify["Lasting"]):
        verify["check_messages"](1_800_000_200, 1_800_000_700, start)


def test_a_block_as_old_as_the_one_before_it_does_not_hide_silence(
    verify: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    follows, newest = verify["follows"], 1_800_000_600
    for newest_of_bitcoind in (newest, newest - 200):
        monkeypatch.setattr(time, "time", lambda: 1_800_001_000.0)
        assert not follows(newest, newest_of_bitcoind, is_synced=False)
        assert follows(newest, newest_of_bitcoind, is_synced=True)
        # lnd calls a chain without a block for two hours not synced
        monkeypatch.setattr(time, "time", lambda: 1_800_009_000.0)
        assert follows(newest, newest_of_bitcoind, is_synced=False)
    assert not follows(newest - 1, newest, is_synced=True)


@pytest.mark.parametrize(
    ("is_synced", "peers", "said"),
    [(True, 0, "synced"), (False, 2, "asks its peers"), (False, 0, "has no peer to ask")],
)
def test_verify_says_whether_it_knows_the_channels_of_others(
    verify: dict[str, Any], is_synced: bool, peers: int, said: str
) -> None:
    assert said in verify["graph"]({"synced_to_graph": is_synced, "num_peers": peers})
    assert verify["FACTS"]["synced_to_graph"] == "synced_to_graph"


class Lncli:
    """What lncli prints, by its words; what it does not know fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Any]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []
        monkeypatch.setattr(subprocess, "run", self._run)

    def _run(self, argv: list[str], **_more: Any) -> subprocess.CompletedProcess[str]:
        words = " ".join(argv[1:])
        self.asked.append(words)
        known = next((answer for start, answer in self.answers.items() if words.startswith(start)), None)
        text = known if isinstance(known, str) else json.dumps(known)
        return subprocess.CompletedProcess(argv, known is None, text, "" if known is not None else "unavailable")


INFO = {
    "alias": "ann", "identity_pubkey": KEY, "uris": [], "block_height": 7, "synced_to_chain": True,
    "synced_to_graph": False, "num_peers": 1,
}  # fmt: skip
CHANNEL = {"capacity": "9", "local_balance": "5", "remote_balance": "3", "channel_point": "tx:0"}


@pytest.mark.parametrize(
    ("answers", "state", "known"),
    [
        ({}, "does not answer: it is starting, or has no wallet", False),
        ({"state": {"state": "LOCKED"}}, "has a wallet that is locked", False),
        ({"state": {"state": "RPC_ACTIVE"}, "getinfo": INFO}, "waits for blocks", True),
    ],
)
def test_status_says_what_a_node_does_that_is_not_at_work(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], state: str, known: bool
) -> None:
    Lncli(monkeypatch, answers)
    summary = runpy.run_path(str(SCRIPTS / "summary.py"))["summarize"]()
    assert (summary["state"], summary["channels"], "height" in summary) == (state, [], known)


def test_status_has_all_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    Lncli(
        monkeypatch,
        {
            "state": {"state": "SERVER_ACTIVE"},
            "getinfo": INFO,
            "walletbalance": {"confirmed_balance": "11", "unconfirmed_balance": "2"},
            "listchannels": {"channels": [{**CHANNEL, "active": True, "remote_pubkey": KEY, "peer_alias": "bob"}]},
            "pendingchannels": {
                "pending_open_channels": [{"channel": {**CHANNEL, "remote_node_pub": KEY}}],
                "waiting_close_channels": [],
                "pending_force_closing_channels": [],
            },
            "tower info": {"uris": [TOWER]},
        },
    )
    summary = runpy.run_path(str(SCRIPTS / "summary.py"))["summarize"]()
    found = [(item["peer"], item["state"], item["local"]) for item in summary["channels"]]
    assert found == [("bob", "active", 5), (KEY, "opening", 5)]
    assert (summary["in_channels"], summary["on_chain"], summary["watchtower"]) == (5, 11, TOWER)
    assert "guarded_by" not in summary


def run_program(program: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, folder: Path, **request: Any) -> Any:
    """The answer of a program that keeps its files in a folder; raises SystemExit if it fails."""
    script = runpy.run_path(str(SCRIPTS / program))
    variables = script["main"].__globals__
    monkeypatch.setitem(variables, "DIRECTORY", folder)
    monkeypatch.setitem(variables, "TRUST", str(folder.parent / "root.pem"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    script["main"]()
    return json.loads(capsys.readouterr().out)


def test_link_has_a_narrow_macaroon_and_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lncli = Lncli(monkeypatch, {"bakemacaroon": "00ff10\n", "deletemacaroonid": ""})
    (tmp_path / "root.pem").write_text(ssl.DER_cert_to_PEM_cert(b"\xfb\xff root"))

    def ask(**request: Any) -> Any:
        return run_program("connection.py", monkeypatch, capsys, tmp_path / "clients", **request)

    made = ask(action="make", name="phone", may="invoices", place="a.onion:8080")
    link = urlsplit(made["link"])
    values = {key: item[0] for key, item in parse_qs(link.query).items()}
    assert (link.scheme, link.netloc) == ("lndconnect", "a.onion:8080")
    assert values == {"cert": "-_8gcm9vdA", "macaroon": "AP8Q"}
    (asked,) = lncli.asked
    assert "invoices:write" in asked
    assert not {"macaroon:", "offchain:write", "onchain:write"}.intersection(asked.split())
    # shown again, and not made again
    assert ask(action="make", name="phone", may="invoices", place="a.onion:8080") == made
    assert len(lncli.asked) == 1
    with pytest.raises(SystemExit, match="phone may invoices, not pay: revoke it first"):
        ask(action="make", name="phone", may="pay", place="a.onion:8080")
    assert ask(action="list") == {"clients": [{"name": "phone", "may": "invoices"}]}
    ask(action="revoke", name="phone")
    number = asked.split()[2]
    assert lncli.asked[1:] == [f"deletemacaroonid {number}"]
    assert ask(action="list") == {"clients": []}
    with pytest.raises(SystemExit, match="phone has no link; those that have one: none"):
        ask(action="revoke", name="phone")


def test_no_link_lets_a_program_spend_coins_or_give_itself_more() -> None:
    permissions = runpy.run_path(str(SCRIPTS / "connection.py"))["PERMISSIONS"]
    for granted in permissions.values():
        assert not {"onchain:write", "offchain:write", "peers:write"}.intersection(granted)
        assert not [item for item in granted if "macaroon" in item.lower()]


def test_macaroon_of_a_consumer_is_revoked_and_those_of_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lncli = Lncli(monkeypatch, {"deletemacaroonid": ""})
    folder = tmp_path / "consumers"
    folder.mkdir()
    for name in ("till.1000", "tillage.2000"):
        (folder / f"{name}.json").write_text('"00"')
    assert run_program("revoke.py", monkeypatch, capsys, folder, consumers=["till"]) == {"revoked": ["till"]}
    assert (lncli.asked, [path.name for path in folder.iterdir()]) == (["deletemacaroonid 1000"], ["tillage.2000.json"])
    lncli.answers.clear()
    with pytest.raises(SystemExit, match="lncli deletemacaroonid 2000: unavailable"):
        run_program("revoke.py", monkeypatch, capsys, folder, consumers=["tillage"])
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("needed", "fault"),
    [
        ({}, "does not say what it may do there"),
        ({"macaroon": []}, "does not say what it may do there"),
        ({"macaroon": "info:read"}, "does not say what it may do there"),
        ({"macaroon": ["info"]}, "does not say what it may do there"),
        ({"macaroon": ["info:read", "macaroon:generate"]}, "asks for macaroon:generate: it could give itself"),
        ({"macaroon": ["uri:/lnrpc.Lightning/BakeMacaroon"]}, "it could give itself any other permission"),
    ],
)
def test_consumer_that_asks_for_too_much_gets_no_macaroon(
    monkeypatch: pytest.MonkeyPatch, needed: dict[str, Any], fault: str
) -> None:
    monkeypatch.setattr("bcm_guest.prove.make_credentials", lambda make: None)
    script = runpy.run_path(str(SCRIPTS / "credentials.py"))
    with pytest.raises(script["Lasting"], match=f"stack till .*{fault}"):
        script["permissions_of"]("till", needed)
    assert script["permissions_of"]("till", {"macaroon": ["info:read"]}) == ["info:read"]
