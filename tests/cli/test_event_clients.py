# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm events grant` writes for a program elsewhere, and what it refuses. tests/e2e has a real broker."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from bcm_cli import event_clients
from bcm_cli.datacenter import DataCenter, UsageError

PLACE = SimpleNamespace(names=(), address="192.0.2.1", port=9095)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The inventory's variable; certificates are issued and revoked elsewhere."""
    there: dict[str, Any] = {"kafka_clients": {"bob": ["lnd.invoice"]}, "asked": []}
    monkeypatch.setattr(DataCenter, "variable", lambda _self, name, _default=None: there.get(name))
    monkeypatch.setattr(event_clients.config, "write", lambda _path, settings: there.update(settings))
    monkeypatch.setattr(event_clients, "_place", lambda _datacenter: PLACE)
    monkeypatch.setattr(event_clients.secrets_file, "read_secrets", lambda _path, _vault: {"kafka/clients": "s"})
    monkeypatch.setattr(event_clients, "vault", lambda _datacenter: None)
    monkeypatch.setattr(DataCenter, "secrets", tmp_path)
    monkeypatch.setattr(DataCenter, "chain", "regtest")
    (tmp_path / "regtest.json").touch()

    def asked(args: argparse.Namespace, topics: Sequence[str] = ()) -> int:
        there["asked"].append((args.client, args.stack, args.by, *topics))
        return 0

    monkeypatch.setattr(event_clients.client_access, "let_in", asked)
    monkeypatch.setattr(event_clients.client_access, "revoke", asked)
    return there


def arguments(folder: Path, **more: Any) -> argparse.Namespace:
    told = {"client": "alice", "read": ["lnd.payment", "bitcoind.*"], "out": str(folder / "alice"), "json": False}
    return argparse.Namespace(datacenter=DataCenter("local"), **{**told, **more})


def test_client_gets_its_options_and_its_rights(written: dict[str, Any], tmp_path: Path) -> None:
    assert event_clients.grant(arguments(tmp_path)) == 0
    assert written["kafka_clients"] == {"bob": ["lnd.invoice"], "alice": ["bitcoind.*", "lnd.payment"]}
    assert written["asked"] == [("alice", "kafka", "lan", "bitcoind.*", "lnd.payment")]
    path = tmp_path / "alice/alice@kafka.properties"
    assert path.stat().st_mode & 0o777 == 0o600
    options = dict(line.split("=", 1) for line in path.read_text().splitlines())
    assert (options["bootstrap.servers"], options["security.protocol"]) == ("192.0.2.1:9095", "SASL_SSL")
    assert options["sasl.username"] == options["group.id"] == "client_alice"
    assert options["sasl.password"] == hashlib.sha256(b"s/alice").hexdigest()
    assert options["ssl.key.location"] == "alice@kafka.key"
    schemas = json.loads((tmp_path / "alice/schemas.json").read_text())
    assert {"lnd.payment", "bitcoind.block", "bitcoind.log"} <= set(schemas)
    assert {topic.partition(".")[0] for topic in schemas} == {"lnd", "bitcoind"} and "lnd.invoice" not in schemas
    assert len(schemas["bitcoind.block"]) > 1, "all versions, of which the newest is the last"
    assert schemas["bitcoind.block"][-1]["fields"][0]["type"]["name"] == "Envelope"


def test_password_is_not_printed(written: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event_clients.grant(arguments(tmp_path))
    printed = "".join(capsys.readouterr())
    assert "192.0.2.1:9095" in printed and hashlib.sha256(b"s/alice").hexdigest() not in printed


def test_revoked_client_has_neither_rights_nor_certificate(written: dict[str, Any], tmp_path: Path) -> None:
    event_clients.grant(arguments(tmp_path))
    event_clients.revoke(arguments(tmp_path))
    assert written["kafka_clients"] == {"bob": ["lnd.invoice"]}
    assert [asked[:3] for asked in written["asked"]] == [("alice", "kafka", "lan")] * 2


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"client": "Alice"}, '"Alice" cannot be the name of a client'),
        ({"client": 'a" b'}, "cannot be the name of a client"),
        ({"read": ["bitcoind"]}, '"bitcoind" is no topic'),
        ({"read": ["*"]}, '"\\*" is no topic'),
        ({"read": ["bitcoind.bl*"]}, "is no topic"),
        ({"read": ["bitcoin.*"]}, "bitcoin"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_written(
    written: dict[str, Any], tmp_path: Path, more: dict[str, Any], fault: str
) -> None:
    with pytest.raises(UsageError, match=fault):
        event_clients.grant(arguments(tmp_path, **more))
    assert "alice" not in written["kafka_clients"] and written["asked"] == []


def test_data_center_that_lets_nobody_in_says_how_to(written: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(BcmError, match="write kafka/clients with `lan` below bcm_access"):
        event_clients._place(DataCenter("local"))
