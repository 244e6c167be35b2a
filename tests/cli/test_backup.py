# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm backup` and `bcm lightning restore` refuse before anything is changed, and what they show."""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter import secrets_file
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from bcm_cli import backup, lightning, lightning_restore
from bcm_cli.datacenter import DataCenter
from tests.cli.conftest import Checkout

KEY, OTHER = "A" * 43, "B" * 42 + "A"
NODE = "02" * 33
VALUES = {
    "backups/sealing_key": KEY,
    "backups/ssh_key": KEY,
    "lnd/recovery_words": "abandon " * 23 + "zoo",
    "lnd/public_key": NODE,
}
CONTENT = {
    "datacenter": "local",
    "chain": "regtest",
    "stack": "lnd",
    "node": NODE,
    "created": "2026-11-29T12:00:00.000+00:00",
    "channels": [
        {"point": "ab:0", "peer": "carol\x1b[2J", "public_key": "03" * 33, "capacity": 1000000, "local": 400000},
        {"point": "cd:1", "peer": "", "public_key": "04" * 33, "capacity": 50000, "local": 0},
    ],
    "backup": base64.b64encode(b"backup").decode(),
    "sha256": hashlib.sha256(b"backup").hexdigest(),
}


def seal(content: Any, secret: str = KEY) -> bytes:
    """Encrypt as age does (https://age-encryption.org/v1)."""

    def derived(key: bytes, salt: bytes, purpose: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=salt, info=purpose).derive(key)

    def encoded(raw: bytes) -> bytes:
        return base64.b64encode(raw).rstrip(b"=")

    to = X25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(f"{secret}=")).public_key()
    ephemeral, key = X25519PrivateKey.from_private_bytes(bytes(range(32))), bytes(range(16))
    share = ephemeral.public_key().public_bytes_raw()
    wrapping = derived(ephemeral.exchange(to), share + to.public_bytes_raw(), b"age-encryption.org/v1/X25519")
    body = ChaCha20Poly1305(wrapping).encrypt(bytes(12), key, None)
    header = b"age-encryption.org/v1\n-> X25519 " + encoded(share) + b"\n" + encoded(body) + b"\n---"
    mac = hmac.digest(derived(key, b"", b"header"), header, "sha256")
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    payload = ChaCha20Poly1305(derived(key, bytes(16), b"payload")).encrypt(bytes(11) + b"\1", text, None)
    return header + b" " + encoded(mac) + b"\n" + bytes(16) + payload


@pytest.fixture
def kept(checkout: Checkout) -> Path:
    path = checkout.home / "inventories/local/secrets/regtest.json"
    path.parent.mkdir(mode=0o700)
    path.write_text(secrets_file.format_secrets(VALUES))
    path.chmod(0o600)
    return path


def refused(checkout: Checkout, path: Path, content: bytes) -> str:
    path.write_bytes(content)
    done = checkout.bcm("lightning", "restore", "lnd", "--from", str(path))
    assert done.returncode == 1, done.stdout
    return done.stderr


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (seal(CONTENT, OTHER), "is not encrypted to this data center"),
        (seal(CONTENT)[:-1], "is damaged, or not whole"),
        (b"", "is not a file of age"),
        (seal({**CONTENT, "sha256": "0" * 64}), "is damaged: its digest is another one"),
        (seal([]), "is damaged: it holds no mapping"),
        (seal({}), "is damaged: it is not what the stack backups writes"),
        (seal({**CONTENT, "datacenter": "office"}), "is of office regtest lnd, not of local regtest lnd"),
        (seal({**CONTENT, "chain": "mainnet"}), "is of local mainnet lnd"),
        (seal({**CONTENT, "stack": "clightning"}), "is of local regtest clightning"),
        (seal({**CONTENT, "node": "03" * 33}), f"is of node {'03' * 33}, not of {NODE}"),
        (b"SQLite format 3\0" + bytes(100), "is a database of a node. An old one has former states of channels"),
        (bytes(16) + bytes.fromhex("edda0ced") + bytes(100), "publishing one lets the other side take all coins"),
    ],
)
def test_what_is_no_copy_of_the_node_is_refused(
    checkout: Checkout, kept: Path, tmp_path: Path, content: bytes, fault: str
) -> None:
    assert fault in refused(checkout, tmp_path / "copy", content)


def test_fate_of_each_channel_is_shown_and_a_person_is_asked(checkout: Checkout, kept: Path, tmp_path: Path) -> None:
    path = tmp_path / "copy"
    path.write_bytes(seal(CONTENT))
    done = checkout.bcm("lightning", "restore", "lnd", "--from", str(path))
    assert done.returncode == 1
    first, second = done.stdout.splitlines()[1:3]
    assert [word in first for word in ("carol\\x1b[2J", "ab:0", "400000", "closed by the peer")] == [True] * 4
    assert [word in second for word in ("04" * 33, "cd:1", "nothing of yours was in it")] == [True] * 3
    assert "Nothing was restored: run it on a terminal, or add --yes" in done.stderr


@pytest.mark.parametrize(
    ("missing", "fault"),
    [
        ("lnd/recovery_words", "Data center local has no recovery words of lnd"),
        ("backups/sealing_key", "Secret backups/sealing_key does not exist yet"),
    ],
)
def test_secrets_that_are_missing_are_named(
    checkout: Checkout, kept: Path, tmp_path: Path, missing: str, fault: str
) -> None:
    values = {name: value for name, value in VALUES.items() if name != missing}
    kept.write_text(secrets_file.format_secrets(values))
    assert fault in refused(checkout, tmp_path / "copy", seal(CONTENT))


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["bitcoind"], "Stack bitcoind has no channels to restore"),
        (["lnd", "--from", "atic"], 'Unknown target "atic"'),
        (["lnd", "--from", "./nothing"], "nothing"),
    ],
)
def test_wrong_names_are_refused(checkout: Checkout, kept: Path, words: list[str], fault: str) -> None:
    with checkout.settings().open("a") as settings:
        settings.write("backups_targets: {attic: {type: controller, path: /nonexistent}}\n")
    done = checkout.bcm("lightning", "restore", *words)
    assert done.returncode
    assert fault in done.stderr


def test_newest_copy_of_a_folder_is_taken(checkout: Checkout, kept: Path, tmp_path: Path) -> None:
    with checkout.settings().open("a") as settings:
        settings.write(f"backups_targets: {{desk: {{type: controller, path: {tmp_path}/copies}}}}\n")
    (tmp_path / "copies").mkdir()
    for name, content in (("1", b"damaged"), ("2", seal(CONTENT)), ("3.new", b"damaged")):
        (tmp_path / f"copies/local-regtest-lnd-{name}.age").write_bytes(content)
    (tmp_path / "copies/local-regtest-lnd-3.new.age").rename(tmp_path / "copies/local-regtest-lnd-3.age.new")
    done = checkout.bcm("lightning", "restore", "lnd", "--from", "desk")
    assert "local-regtest-lnd-2.age:" in done.stderr
    assert "Nothing was restored" in done.stderr


@pytest.mark.parametrize("answers", [True, False])
def test_copies_are_asked_for_even_if_another_node_kept_their_stack_from_starting(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    def ask(*_words: Any, **_more: Any) -> dict[str, Any]:
        if not answers:
            raise LxdError("Instance backups", "does not run")
        return {"targets": {"attic": {"copy": "c1", "content": base64.b64encode(b"copy").decode()}}}

    monkeypatch.setattr(lightning_restore, "connect", lambda _datacenter: nullcontext())
    monkeypatch.setattr(lightning_restore, "_is_running", lambda *_words: False)
    monkeypatch.setattr(lightning_restore, "_start", lambda *_words: 2)
    monkeypatch.setattr(backup, "ask", ask)
    words = (argparse.Namespace(origin=None), DataCenter("local"), argparse.Namespace(name="lnd"), ["attic"], [])
    if answers:
        assert lightning_restore._remote(*words) == [("target attic", b"copy")]
    else:
        with pytest.raises(BcmError, match="the run that starts it ended with 2: if it waits for a node that has no"):
            lightning_restore._remote(*words)


COPY = lightning_restore.Copy("attic", {**CONTENT, "channels": [{"point": "ab:0", "payments": 3}]})


@pytest.mark.parametrize(
    ("channels", "fault", "copy", "is_newest"),
    [
        ({"ab:0": {"payments": 3}}, None, COPY, True),
        ({"ab:0": {"payments": 4}, "cd:1": {"payments": 0}}, None, COPY, True),
        ({"ab:0": {"payments": 2}}, None, COPY, False),
        ({"cd:1": {"payments": 9}}, None, COPY, False),
        ({}, None, None, True),
        ({"ab:0": {"payments": 3}}, "it is damaged", COPY, False),
        ({}, "it is damaged", None, False),
    ],
)
def test_replica_older_than_a_copy_is_not_used(
    channels: dict[str, Any], fault: str | None, copy: lightning_restore.Copy | None, is_newest: bool
) -> None:
    replica = lightning_restore.Replica(True, fault, channels, False)
    assert lightning_restore._is_newest(replica, copy) is is_newest


def test_keys_are_printed(checkout: Checkout, kept: Path) -> None:
    assert checkout.bcm("backup", "key").stdout.startswith("restrict ssh-ed25519 AAAA")
    assert checkout.bcm("backup", "identity").stdout.startswith("AGE-SECRET-KEY-1")


def test_follow_needs_a_folder_to_copy_to(checkout: Checkout) -> None:
    done = checkout.bcm("backup", "follow")
    assert done.returncode == 1
    assert "has no folder of this machine among its targets" in done.stderr


@pytest.mark.parametrize(
    ("answered", "shown"),
    [
        ({"attic": {"type": "ssh", "fault": None, "delivered": {}}}, "attic   ssh   -    behind since 2026-11-29"),
        ({}, "Its channel backup is copied to no target"),
        (None, "backups does not answer"),
    ],
)
def test_lightning_status_shows_where_the_copies_are(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answered: dict[str, Any] | None,
    shown: str,
) -> None:
    node = {"state": "works", "addresses": [], "channels": []}
    monkeypatch.setattr(lightning, "connect", lambda _datacenter: nullcontext())
    monkeypatch.setattr(lightning, "deployed", lambda _client: {"lnd": {}, "clightning": {}, "backups": {}})
    monkeypatch.setattr(lightning, "ask_program", lambda *_words, **_more: dict(node))

    def ask(*_words: Any, **_more: Any) -> dict[str, Any]:
        if answered is None:
            raise LxdError("backups", "does not answer")
        return {"sources": {"lnd": SOURCE}, "targets": answered, "recipient": ""}

    monkeypatch.setattr(backup, "ask", ask)
    datacenter = DataCenter("local")
    assert lightning.status(argparse.Namespace(datacenter=datacenter, json=False)) == 0
    output = capsys.readouterr()
    assert shown in output.out + output.err
    assert output.out.count("channel backup") == 2
    lightning.status(argparse.Namespace(datacenter=datacenter, json=True))
    nodes = {item["stack"]: item for item in json.loads(capsys.readouterr().out)["nodes"]}
    assert [item["target"] for item in nodes["lnd"]["copies"]] == list(answered or {})
    assert nodes["clightning"]["copies"] == []


SOURCE = {"copy": "c2", "created": "2026-11-29T12:00:00.000+00:00", "fault": None}


@pytest.mark.parametrize(
    ("delivered", "fault", "broken", "state", "why"),
    [
        ({"copy": "c2", "time": "2026-11-29T12:00:01+00:00"}, None, None, "up to date", None),
        ({"copy": "c2", "time": "2026-11-29T12:00:01+00:00"}, "away", None, "up to date", "away"),
        ({"copy": "c1", "time": "2026-11-29T11:00:01+00:00"}, None, None, "behind", None),
        ({"copy": "c1", "time": "2026-11-29T11:00:01+00:00"}, "away", None, "failed", "away"),
        ({"copy": "c2", "time": "2026-11-29T12:00:01+00:00"}, None, "lnd is away", "failed", "lnd is away"),
        ({}, "away", None, "failed", "away"),
    ],
)
def test_state_of_a_target(
    delivered: dict[str, str], fault: str | None, broken: str | None, state: str, why: str | None
) -> None:
    targets = {"attic": {"type": "ssh", "fault": fault, "delivered": {"lnd": delivered} if delivered else {}}}
    (row,) = backup._rows("lnd", {**SOURCE, "fault": broken}, targets, {})
    assert (row["state"], row["why"], row["since"] is None) == (state, why, state == "up to date")
