# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm lightning guard`: the watchtower of another data center, by its name."""

from __future__ import annotations

import argparse
import json
from contextlib import nullcontext
from typing import Any

import pytest

from bcm_cli import lightning
from bcm_cli.datacenter import DataCenter

from .conftest import Checkout

TOWERS = [f"{digits * 33}@{'a' * 56}.onion:9911" for digits in ("02", "03")]


@pytest.mark.parametrize(
    ("chain", "name", "fault"),
    [
        ("regtest", "offce", 'bcm: Unknown data center "offce": did you mean "office"? Known data centers: '),
        ("regtest", "local", "bcm: Data center local cannot guard its own channels: its watchtower is off when it is"),
        ("signet", "office", "bcm: Data center office is on signet, and data center local on regtest: name one on the"),
    ],
)
def test_data_center_that_cannot_guard_another_is_refused(
    checkout: Checkout, chain: str, name: str, fault: str
) -> None:
    assert checkout.bcm("datacenter", "create", "office").returncode == 0
    assert checkout.bcm("-d", "office", "config", "set", f"chain={chain}").returncode == 0
    before = checkout.settings().read_text()
    done = checkout.bcm("-d", "local", "lightning", "guard", name)
    assert done.returncode == 2
    assert done.stderr.startswith(fault)
    assert checkout.settings().read_text() == before


class Towers:
    """Data centers home and office; what the node of the latter says is its watchtower."""

    def __init__(self) -> None:
        self.tower = ""
        self.used: list[str] = []

    def ask(self, _client: Any, name: str, *_words: Any, **_more: Any) -> dict[str, Any]:
        return {"state": "works", **({"watchtower": self.tower} if self.tower and name == "lnd" else {})}

    def keep(self, _path: Any, settings: dict[str, Any]) -> None:
        assert list(settings) == ["lnd_watchtowers"]
        self.used = settings["lnd_watchtowers"]


@pytest.fixture
def towers(monkeypatch: pytest.MonkeyPatch) -> Towers:
    found = Towers()
    monkeypatch.setattr(lightning, "connect", lambda _datacenter: nullcontext())
    monkeypatch.setattr(lightning, "deployed", lambda _client: {"tor": {}, "clightning": {}, "lnd": {}})
    monkeypatch.setattr(lightning, "ask_program", found.ask)
    monkeypatch.setattr(lightning.config, "write", found.keep)
    monkeypatch.setattr(DataCenter, "chain", "regtest")
    return found


def guard(used: list[str]) -> int:
    datacenter = DataCenter("local")
    datacenter.give({"lnd_watchtowers": used})
    return lightning.guard(argparse.Namespace(datacenter=datacenter, tower="ssh", json=True))


def test_watchtower_of_another_data_center_is_added_once(towers: Towers, capsys: pytest.CaptureFixture[str]) -> None:
    for towers.tower in (*TOWERS, TOWERS[0]):
        assert guard(towers.used) == 0
        assert json.loads(capsys.readouterr().out) == {"stack": "lnd", "watchtower": towers.tower}
    assert towers.used == TOWERS


def test_data_center_without_a_watchtower_is_told_from_one_that_is_unknown(towers: Towers) -> None:
    with pytest.raises(lightning.BcmError) as caught:
        guard([])
    assert str(caught.value) == (
        "Data center ssh has no watchtower at work: `bcm -d ssh config set lnd_watchtower=true`, and "
        "`bcm -d ssh stack start lnd`"
    )
