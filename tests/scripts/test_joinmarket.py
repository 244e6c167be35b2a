# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of the role joinmarket, with a daemon, a bitcoind and a tor that say what a test wants."""

from __future__ import annotations

import io
import json
import runpy
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import joinmarket as client
from ansible_collections.bcm.core.plugins.module_utils._guest import prove
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Endpoint
from tests.support import COLLECTION

SCRIPT = COLLECTION / "roles/joinmarket/scripts/wallet.py"
WORDS = "abandon " * 11 + "about"
NAME = "jm_73c5da0a_regtest"
OFFER = {"ordertype": "sw0reloffer", "txfee": "0", "cjfee_a": "0", "cjfee_r": "0.00002", "minsize": "100000"}


class Daemon:
    """A daemon with a wallet or none, and what it was asked for."""

    def __init__(self, words: str = "") -> None:
        self.words = words
        self.is_open = False
        self.is_maker = False
        self.asked: list[str] = []

    def __call__(
        self, place: Endpoint, method: str, path: str, body: str, headers: Mapping[str, str], patience: float
    ) -> tuple[int, str]:
        path = path.removeprefix("/api/v1/")
        self.asked.append(path)
        is_known = headers.get("Authorization") == "Bearer token"
        sent = json.loads(body or "{}")
        if path in ("wallet/create", "wallet/recover"):
            self.words = sent.get("seedphrase", WORDS)
            if len(self.words.split()) != 12:
                return 400, json.dumps({"message": f"Invalid: {self.words}"})
            self.is_open = True
            return 201, json.dumps({"token": "token", "seedphrase": self.words})
        if path.endswith("/unlock"):
            self.is_open = sent["password"] == "secret"
            return (200, '{"token": "token"}') if self.is_open else (401, '{"message": "wrong"}')
        if path not in ("getinfo", "session", "wallet/all") and not is_known:
            return 401, "{}"
        self.is_maker |= path.endswith("maker/start") and sent == OFFER
        answer = {
            "version": "0.37.0",
            "wallets": ["wallet.jmdat"] if self.words else [],
            "maker_running": self.is_maker,
            "coinjoin_in_process": False,
            "descriptor_wallet_name": NAME if self.is_open and is_known else None,
            "seedphrase": self.words,
            "address": f"bcrt1bond{path[-7:]}",
        }
        return 200, json.dumps(answer)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the program with a daemon, secrets and what is expected; returns its answer."""
    monkeypatch.setattr(client, "_STATE", tmp_path / "bcm.json")

    def ran(daemon: Daemon, secrets: Mapping[str, str], *, restore: bool = False, **expected: Any) -> Any:
        monkeypatch.setattr(client, "http_request", daemon)
        request = {
            "bcm": {"stack": "joinmarket", "services": {"http": {"listen": "127.0.0.1", "port": 28183}}},
            "secrets": {"joinmarket/wallet_password": "secret", **secrets},
            "expected": {"offer": None, "bond": "", **expected},
            "has_words": "joinmarket/recovery_words" in secrets,
            "restore": restore,
            "deadline": 0,
        }
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return json.loads(sys.stdout.getvalue())  # type: ignore[attr-defined]

    return ran


KEPT = {"joinmarket/recovery_words": WORDS, "joinmarket/wallet_name": NAME}


def test_wallet_is_made_once_and_its_words_are_kept(run: Any, tmp_path: Path) -> None:
    daemon = Daemon()
    assert run(daemon, {}) == {"needs_words": False, "keep": KEPT, "changed": True}
    assert json.loads((tmp_path / "bcm.json").read_text()) == {"bond": None, "wallet": NAME}
    assert run(daemon, KEPT) == {"needs_words": False, "keep": {}, "changed": False}
    assert daemon.asked.count("wallet/create") == 1 and "wallet/wallet.jmdat/getseed" not in daemon.asked


def test_words_are_kept_if_a_run_was_killed_before_that(run: Any) -> None:
    assert run(Daemon(WORDS), {})["keep"] == KEPT


def test_lost_wallet_is_not_replaced_by_an_empty_one(run: Any) -> None:
    daemon = Daemon()
    with pytest.raises(SystemExit, match="its wallet is not on its volume.*joinmarket_restore=true"):
        run(daemon, KEPT)
    assert daemon.words == ""


def test_wallet_is_restored_of_its_words(run: Any) -> None:
    daemon = Daemon()
    withheld = {key: value for key, value in KEPT.items() if key == "joinmarket/recovery_words"}
    assert run(daemon, withheld, restore=True)["keep"] == {"joinmarket/wallet_name": NAME}
    assert daemon.words == WORDS and daemon.is_open


def test_restore_asks_for_the_words(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = runpy.run_path(str(SCRIPT))
    daemon = Daemon()
    monkeypatch.setattr(client, "http_request", daemon)
    stack = namespace["Stack"](
        {"services": {"http": {"listen": "127.0.0.1", "port": 1}}}, {"joinmarket/wallet_password": "secret"}, {}
    )
    answer = namespace["make_ready"](stack, has_words=True, restore=True, end=0.0)
    assert answer == {"needs_words": True, "keep": {}, "changed": False} and not daemon.words


def test_words_that_are_not_valid_are_not_shown(run: Any) -> None:
    with pytest.raises(SystemExit, match="its recovery words are not valid") as caught:
        run(Daemon(), {"joinmarket/recovery_words": "abandon able"}, restore=True)
    assert "able" not in str(caught.value).replace("not valid", "")


def test_restore_without_words_is_refused(run: Any) -> None:
    with pytest.raises(SystemExit, match="there is nothing to restore"):
        run(Daemon(), {}, restore=True)


def test_volume_with_another_wallet_is_refused(run: Any) -> None:
    with pytest.raises(SystemExit, match=f"its volume has another wallet: {NAME}, not jm_00000000_regtest"):
        run(Daemon(WORDS), {**KEPT, "joinmarket/wallet_name": "jm_00000000_regtest"})


def test_maker_is_started_once_and_shows_its_bond(run: Any, tmp_path: Path) -> None:
    daemon = Daemon(WORDS)
    run(daemon, KEPT, offer=OFFER, bond="2027-06")
    run(daemon, KEPT, offer=OFFER, bond="2027-06")
    assert daemon.is_maker and daemon.asked.count("wallet/wallet.jmdat/maker/start") == 1
    assert json.loads((tmp_path / "bcm.json").read_text())["bond"] == {
        "until": "2027-06",
        "address": "bcrt1bond2027-06",
    }


ONION = "a" * 56 + ".onion"


@contextmanager
def tor(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """The port of a SOCKS proxy that answers a request to connect so, and what it was sent."""
    asked: list[bytes] = []

    def serve() -> None:
        connection, _address = server.accept()
        with connection:
            for reply in (b"\5\2", b"\1\0", answer):
                asked.append(connection.recv(200))
                connection.sendall(reply)
            with suppress(ConnectionError):  # it closes with a part of the answer unread
                connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], asked
        thread.join(10)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the verify program; returns its report."""
    monkeypatch.setattr(client, "_STATE", tmp_path / "bcm.json")
    client.write_state({"wallet": NAME, "bond": None})

    def ran(port: int = 1, session: Mapping[str, Any] | None = None, *, keys: bool = False, **expected: Any) -> Any:
        state = {"session": True, "wallet_name": "wallet.jmdat", "maker_running": False, **(session or {})}

        def answer(
            place: Endpoint, method: str = "GET", path: str = "/", *_more: Any, **_named: Any
        ) -> tuple[int, str]:
            if path.endswith("/display"):
                return 401, "{}"
            if place.port == 8332:
                found = [NAME] if path == "/" else {"private_keys_enabled": keys}
                return 200, json.dumps({"result": found})
            return 200, json.dumps({"version": "0.37.0", **state})

        monkeypatch.setattr(prove, "http_request", answer)
        monkeypatch.setattr(client, "http_request", answer)
        request = {
            "bcm": {
                "stack": "joinmarket",
                "address": "10.0.0.9",
                "services": {"http": {"listen": "127.0.0.1", "port": 28183, "tls": "server"}},
                "needs": {
                    "bitcoind": {"rpc": {"address": "10.0.0.2", "port": 8332, "tls": None}},
                    "tor": {"socks": {"address": "127.0.0.1", "port": port, "tls": None}},
                },
            },
            "secrets": {"bitcoind/rpc/joinmarket": "secret"},
            "expected": {"offer": None, "bond": "", "directories": [], **expected},
            "deadline": 0,
        }
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        runpy.run_path(str(SCRIPT.with_name("verify.py")), run_name="__main__")
        return json.loads(sys.stdout.getvalue())  # type: ignore[attr-defined]

    return ran


def test_directory_server_is_asked_for_by_name_on_a_circuit_of_its_own(verified: Any) -> None:
    with tor(b"\5\0\0\1") as (port, asked):
        report = verified(port, directories=[f"{ONION}:5222"])
    assert report["notes"] == [f"wallet {NAME}", f"directory server {ONION}:5222"] and not report["warnings"]
    assert asked[0] == b"\5\1\2" and asked[2] == b"\5\1\0\3\x3e" + ONION.encode() + (5222).to_bytes(2, "big")


def test_directory_server_out_of_reach_is_a_warning(verified: Any) -> None:
    with tor(b"\5\4\0\1") as (port, _asked):
        (warning,) = verified(port, directories=[f"{ONION}:5222"])["warnings"]
    assert warning.startswith("joinmarket reaches none of its directory servers")
    assert verified()["notes"] == [f"wallet {NAME}", "no directory server is set"]


def test_maker_that_offers_nothing_is_a_warning(verified: Any) -> None:
    (warning,) = verified(offer=OFFER)["warnings"]
    assert warning.startswith("joinmarket is a maker, and offers nothing")
    assert "maker is on" in verified(session={"maker_running": True}, offer=OFFER)["notes"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"session": {"session": False}}, "its wallet is locked"),
        ({"session": {"wallet_name": "other.jmdat"}}, "its wallet is locked"),
        ({"keys": True}, f"its wallet {NAME} has private keys at bitcoind"),
    ],
)
def test_faults_of_the_wallet(verified: Any, more: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        verified(**more)
