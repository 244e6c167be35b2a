# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An authority whose root is on a Trezor: the double, over UDP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._ca.signer import RootKeys
from ansible_collections.bcm.core.plugins.module_utils._ca.trezor import DeviceError, Trezor
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca.double import Double, Settings

from .conftest import Lab


class Person:
    """Who types the passphrase, and confirms."""

    def __init__(self) -> None:
        self.passphrase = "dc1 passphrase"
        self.told: list[str] = []

    def ask(self, *question: Any) -> str:
        return self.passphrase


@pytest.fixture
def person() -> Person:
    return Person()


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Double]:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("TREZOR_PATH", "BCM_TREZOR_SESSION"):
        monkeypatch.delenv(name, raising=False)
    with Double(Settings()) as plugged:
        yield plugged


@pytest.fixture
def wallet(make: Callable[..., Lab], double: Double, person: Person) -> Lab:
    def opener(keys: object, where: object, *, first: bool, confirmations: int) -> AbstractContextManager[RootKeys]:
        options: dict[str, Any] = {"say": person.told.append, "ask": person.ask, "patience": 2.0}
        return Trezor(double.path, first=first, confirmations=confirmations, **options)

    return make(provider="trezor", open_keys=opener)


def _deploy(lab: Lab) -> list[str]:
    signed = lab.authority.ensure_root(None, allow_new=True).signed + lab.authority.ensure_intermediate().signed
    lab.issue(*(f"leaf{number}" for number in range(20)))
    return signed + lab.authority.ensure_lists({}).signed


def test_a_deployment_asks_three_times_and_then_never(wallet: Lab, double: Double, person: Person) -> None:
    signed = _deploy(wallet)
    assert [line.split()[0] for line in signed] == ["root", "inter", "crl"]
    assert all(any(line in told for told in person.told) for line in signed)
    double.unplug()
    assert _deploy(wallet) == []
    told = wallet.report()
    assert wallet.verify(wallet.one("leaf7")["chain"], told["trust"], told["crl"]) == "OK"


def test_rotation(wallet: Lab) -> None:
    _deploy(wallet)
    old = wallet.report()["trust"]
    assert [line.split()[:2] for line in wallet.authority.ensure_root(2, allow_new=True).signed] == [
        ["root", "g2"],
        ["cross", "g1"],
    ]
    wallet.authority.ensure_intermediate()
    wallet.authority.ensure_lists({})
    told = wallet.report()
    assert wallet.verify(wallet.one("leaf7")["chain"], old, told["crl"]) == "OK"
    assert len({root["path"] for root in told["roots"]}) == 2


def test_a_wrong_passphrase_signs_nothing(wallet: Lab, person: Person) -> None:
    _deploy(wallet)
    before = wallet.files()
    person.passphrase = "another passphrase"
    for work in (
        lambda: wallet.authority.ensure_root(2, allow_new=True),
        lambda: wallet.issue("x", direct=True),
        wallet.later(days=61).authority.ensure_intermediate,
    ):
        with pytest.raises(DeviceError, match="has another key than the root"):
            work()
    assert wallet.files() == before


@pytest.mark.parametrize("answer", ["cancel", "vanish"])
def test_files_are_whole_after_a_failure(wallet: Lab, double: Double, answer: str) -> None:
    _deploy(wallet)
    double.confirmations.clear()
    wallet.issue("x", direct=True)
    # as many for the first of two certificates, and the fault at the second
    double.settings.answers[:] = ["confirm"] * len(double.confirmations) + [answer]
    with pytest.raises(DeviceError):
        wallet.issue("y", "z", direct=True)
    names = [row["name"] for row in wallet.report()["certificates"]]
    assert "y" in names
    assert "z" not in names
    if answer == "vanish":
        double.plug()
    assert len(wallet.issue("y", "z", direct=True).after) == 1
