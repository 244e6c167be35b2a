# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An authority over time: nothing twice, nothing too late, nothing half."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import again, issued, want
from ansible_collections.bcm.core.plugins.module_utils._ca.signer import Identity, Signer
from ansible_collections.bcm.core.plugins.module_utils._ca.software import SoftwareSigner
from ansible_collections.bcm.core.plugins.module_utils._ca.store import Store
from ansible_collections.bcm.core.plugins.module_utils._errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._locks import held

from .conftest import DOMAIN, Lab


class Device:
    """Keys by generation, and what was asked of them."""

    def __init__(self) -> None:
        self.keys: dict[int, Any] = {}
        self.shown: list[str] = []
        self.sessions: list[tuple[bool, int]] = []
        self.cancel_at = 0

    @contextlib.contextmanager
    def opener(self, keys: Any, where: object, *, first: bool, confirmations: int) -> Iterator[Device]:
        self.sessions.append((first, confirmations))
        yield self

    def root(self, identity: Identity, pinned: Any) -> Signer:
        return _Watched(identity, self.keys.setdefault(identity.index, pki.new_key()), self)


class _Watched(SoftwareSigner):
    def __init__(self, identity: Identity, key: Any, device: Device) -> None:
        super().__init__(identity, key)
        self._device = device

    def sign(self, tbs: bytes, shown: str) -> bytes:
        if len(self._device.shown) + 1 == self._device.cancel_at:
            raise BcmError("Cancelled on the device: run again")
        self._device.shown.append(shown)
        return super().sign(tbs, shown)


def _never(*args: Any, **options: Any) -> Any:
    raise AssertionError("the device was asked")


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def wallet(make: Callable[..., Lab], device: Device) -> Lab:
    """An authority whose root is on a device."""
    return make(provider="trezor", opener=device.opener)


def _everything(lab: Lab) -> list[bool]:
    done = [lab.authority.root(None, allow_new=True), lab.authority.intermediate(), lab.issue("electrs", "lxd")]
    return [*(outcome.changed for outcome in done), lab.authority.crl({}).changed]


def test_nothing_is_done_twice_and_no_device_is_asked(wallet: Lab, device: Device) -> None:
    assert _everything(wallet) == [True] * 4
    assert [line.rsplit(" ", 1)[0] for line in device.shown] == ["root g1", "inter g1", "crl g1"]
    before = wallet.files()
    asleep = replace(wallet, authority=replace(wallet.authority, opener=_never))
    assert _everything(asleep) == [False] * 4
    assert wallet.files() == before


def test_check_mode_foretells_and_asks_no_device(make: Callable[..., Lab]) -> None:
    lab = make(provider="trezor", opener=_never, check=True)
    assert _everything(lab) == [True] * 4
    assert not lab.folder.exists()


def test_a_device_is_told_what_comes(wallet: Lab, device: Device) -> None:
    assert wallet.authority.root(None, allow_new=True).signed == device.shown
    assert wallet.authority.root(2, allow_new=True).signed == device.shown[1:]
    assert device.sessions == [(True, 1), (False, 2)]
    assert all(len(shown) <= 21 for shown in device.shown)


def test_a_mistyped_passphrase_begins_no_generation(wallet: Lab, device: Device) -> None:
    wallet.authority.root(None, allow_new=True)
    device.keys = {1: pki.new_key()}
    device.shown.clear()
    for late in (wallet, wallet.later(days=3651)):
        with pytest.raises(BcmError, match="^The device has another key than root g1"):
            late.authority.root(2, allow_new=True)
    assert device.shown == []


def test_what_was_confirmed_before_a_cancel_counts(wallet: Lab, device: Device) -> None:
    wallet.bootstrap()
    device.cancel_at = 4
    with pytest.raises(BcmError, match="Cancelled"):
        wallet.issue("a", "b", "c", direct=True)
    assert [row["name"] for row in wallet.report()["certificates"]] == ["a"]
    device.cancel_at = 0
    assert wallet.issue("a", "b", "c", direct=True).before == ["", ""]


def test_another_device_signs_nothing(wallet: Lab, device: Device) -> None:
    wallet.authority.root(None, allow_new=True)
    before = wallet.files()
    device.keys = {1: pki.new_key()}
    device.shown.clear()
    with pytest.raises(BcmError, match=f"^The device has another key than root g1 of {DOMAIN}: "):
        wallet.authority.intermediate()
    assert device.shown == []
    assert wallet.files() == before


def test_all_in_one_session(wallet: Lab, device: Device) -> None:
    wants = [wallet.want("electrs"), wallet.want("hello")]
    done = wallet.authority.everything(wants, allow_new=True)
    assert [text.split()[0] for text in done.signed] == ["root", "inter", "crl"]
    assert device.sessions == [(True, 3)]
    report = wallet.report()
    assert [item["name"] for item in report["certificates"]] == ["electrs", "hello"]
    leaf = issued(done, wants[0], wallet.authority.now, private=True)
    assert wallet.verify(leaf["chain"], report["trust"], report["crl"]) == "OK"
    assert not wallet.authority.everything(wants).changed
    assert device.sessions == [(True, 3)]


def test_check_mode_foretells_all_of_it(make: Callable[..., Lab], wallet: Lab) -> None:
    wants = [wallet.want("electrs")]
    foretold = replace(wallet.authority, check=True).everything(wants, allow_new=True)
    assert (foretold.signed, foretold.book.roots) == ([], [])
    assert not wallet.folder.exists()
    done = wallet.authority.everything(wants, allow_new=True)
    assert (foretold.before, foretold.after) == (done.before, done.after)
    foretold = replace(wallet.authority, check=True).everything(wants, generation=2, allow_new=True)
    done = wallet.authority.everything(wants, generation=2, allow_new=True)
    assert (foretold.before, foretold.after) == (done.before, done.after)
    assert [text.split()[0] for text in done.signed] == ["root", "cross", "inter", "crl"]


def test_direct_issuance(wallet: Lab, device: Device) -> None:
    wallet.authority.root(None, allow_new=True)
    one = wallet.one(direct=True)
    wallet.authority.crl({})
    told = wallet.report()
    assert one["chain"] == one["certificate"]
    assert wallet.verify(one["chain"], told["trust"], told["crl"]) == "OK"
    assert [line.split()[0] for line in device.shown] == ["root", "leaf", "crl"]
    assert device.sessions == [(True, 1), (False, 1), (False, 1)]
    assert not wallet.issue("electrs", direct=True).changed


# -- time -------------------------------------------------------------------------------------------------------------


def test_only_what_is_due_is_renewed(lab: Lab) -> None:
    lab.bootstrap()
    lab.issue("early")
    later = lab.later(days=15)
    later.issue("late")
    first = {row["name"]: row["serial"] for row in later.report()["certificates"]}
    assert not lab.later(days=19).issue("early", "late").changed
    now = lab.later(days=21)
    outcome = now.issue("early", "late")
    assert len(outcome.after) == 1
    assert outcome.after[0].endswith("(due)")
    second = {row["name"]: row["serial"] for row in now.report()["certificates"]}
    assert second["early"] != first["early"]
    assert second["late"] == first["late"]


def test_what_is_good_is_made_anew_if_asked_for(lab: Lab) -> None:
    """A key that is in the vault is another one then; one that is elsewhere stays."""
    lab.bootstrap()
    here = replace(lab.want("here"), pkcs12=True)
    lab.issue(here, replace(lab.want("there"), usage=("client",)))
    book = lab.authority.book()
    before = book.leaves
    vault = lab.authority.store.keys()
    del vault[pki.key_id(before["there"].certificate.public_key())]
    wants = [again(name, book, vault) for name in before]
    assert wants[0] == here
    assert lab.issue(*wants).changed is False
    done = lab.issue(*(replace(item, anew=True) for item in wants))
    assert [line.rpartition("(")[2] for line in done.after] == ["asked for)", "here: PKCS#12", "asked for)"]
    renewed = lab.authority.book()
    after = renewed.leaves
    same = {
        name: pki.key_id(leaf.certificate.public_key()) == pki.key_id(after[name].certificate.public_key())
        for name, leaf in before.items()
    }
    assert same == {"here": False, "there": True}
    assert all(leaf.certificate.serial_number != after[name].certificate.serial_number for name, leaf in before.items())
    assert [again(name, renewed, vault).usage for name in after] == [item.usage for item in wants]


def test_signatures_are_foretold(wallet: Lab, device: Device) -> None:
    foretold = replace(wallet, authority=replace(wallet.authority, check=True))
    expected = [foretold.authority.root(None, allow_new=True).signatures, foretold.authority.intermediate().signatures]
    assert [*expected, foretold.authority.crl({}).signatures] == [1, 1, 1]
    _everything(wallet)
    assert len(device.shown) == 3
    assert foretold.authority.root(2, allow_new=True).signatures == 2
    assert foretold.issue("a", "b", direct=True).signatures == 2
    assert foretold.issue("a", "b").signatures == 0


def test_a_new_intermediate_leaves_leaves_alone(lab: Lab) -> None:
    lab.bootstrap()
    later = lab.later(days=59)
    later.issue("electrs")
    assert not later.authority.intermediate().changed
    now = lab.later(days=61)
    assert now.authority.intermediate().changed
    assert not now.issue("electrs").changed
    one = now.one()
    assert now.authority.crl({}).changed
    told = now.report()
    assert now.verify(one["chain"], told["trust"], told["crl"]) == "OK"
    fresh = now.one("lxd")
    assert now.verify(fresh["chain"], told["trust"], told["crl"]) == "OK"


def test_lists_are_renewed(lab: Lab) -> None:
    lab.bootstrap().authority.crl({})
    assert not lab.later(days=19).authority.crl({}).changed
    assert [line.split(":")[0][:7] for line in lab.later(days=21).authority.crl({}).after] == ["list of"]
    assert len(lab.later(days=61).authority.crl({}).after) == 2


def test_a_clock_that_goes_back(lab: Lab) -> None:
    lab.bootstrap()
    with pytest.raises(BcmError, match=r"^The clock is wrong: it says 2026-05-30 12:00 UTC, .* written at 2026-06-01"):
        lab.later(days=-2).issue("electrs")
    with pytest.raises(BcmError, match="^The clock is wrong, it says 1970-01-31"):
        replace(lab.authority, now=lab.authority.now - timedelta(days=20575)).crl({})


def test_an_expired_root(lab: Lab) -> None:
    lab.bootstrap()
    lab.issue("electrs")
    late = lab.later(days=3651)
    before = lab.files()
    for work in (
        lambda: late.authority.root(None, allow_new=False),
        late.authority.intermediate,
        lambda: late.issue("electrs"),
        lambda: late.authority.crl({}),
    ):
        with pytest.raises(BcmError, match=r"^Root g1 of .* has expired on 2036-05-29, today is 2036-05-30: set the "):
            work()
    assert lab.files() == before
    assert late.authority.root(2, allow_new=True).changed
    late.authority.intermediate()
    told = late.report()
    assert late.verify(late.one()["chain"], told["trust"]) == "OK"


# -- rotation ---------------------------------------------------------------------------------------------------------


def test_rotation_keeps_who_trusts_the_old_root_connected(wallet: Lab, device: Device) -> None:
    wallet.bootstrap()
    old = wallet.one()
    wallet.authority.crl({})
    old_trust = wallet.report()["trust"]
    device.shown.clear()
    now = wallet.later(days=5)
    assert now.authority.root(2, allow_new=True).changed
    assert not now.authority.root(2, allow_new=False).changed
    assert now.authority.intermediate().changed
    assert now.issue("electrs").after[0].endswith("(another issuer)")
    now.authority.crl({})
    assert [line.rsplit(" ", 1)[0] for line in device.shown] == ["root g2", "cross g1", "inter g2", "crl g2"]
    new, told = now.one(), now.report()
    new_trust = told["roots"][1]["certificate"]
    assert told["trust"] == new_trust + old_trust
    for trust in (old_trust, new_trust):
        assert now.verify(new["chain"], trust, told["crl"]) == "OK"
    assert now.verify(old["chain"], told["trust"], told["crl"]) == "OK"
    # once nothing rests on the old root any more, it is not trusted, and signs no more lists
    late = wallet.later(days=100)
    late.authority.intermediate()
    device.shown.clear()
    late.issue("electrs")
    late.authority.crl({})
    assert [line.rsplit(" ", 1)[0] for line in device.shown] == ["crl g2"]
    assert late.report()["trust"] == new_trust
    assert late.verify(late.one()["chain"], new_trust, late.report()["crl"]) == "OK"


def test_a_new_root_needs_consent(lab: Lab) -> None:
    consent = f"^A new root of {DOMAIN} needs your consent, it has none yet: type `bcm ca init`, or set allow_new_root"
    with pytest.raises(BcmError, match=consent):
        lab.authority.root(None, allow_new=False)
    lab.bootstrap()
    with pytest.raises(BcmError, match="needs your consent, generation 2 would follow 1: type `bcm ca rotate`, or set"):
        lab.authority.root(2, allow_new=False)
    with pytest.raises(BcmError, match=r"^Generation 4 of the root of .* cannot follow 1: write 2"):
        lab.authority.root(4, allow_new=True)


# -- revocation -------------------------------------------------------------------------------------------------------


def test_what_is_revoked_is_refused_and_issued_again(lab: Lab) -> None:
    lab.bootstrap()
    one, other = lab.one(), lab.one("lxd")
    lab.authority.crl({})
    serial = {int(one["serial"], 16): "key_compromise"}
    outcome = lab.authority.crl(serial)
    assert outcome.before[0] == f"electrs {one['serial']}: good"
    assert outcome.after[0] == f"electrs {one['serial']}: revoked, key_compromise"
    assert not lab.authority.crl(serial).changed
    assert not lab.authority.crl({}).changed
    told = lab.report()
    assert "certificate revoked" in lab.verify(one["chain"], told["trust"], told["crl"])
    assert lab.verify(other["chain"], told["trust"], told["crl"]) == "OK"
    assert lab.issue("electrs", "lxd").after == [
        f"electrs: 30 days, electrs.{DOMAIN}, 10.1.2.3, server and client (revoked)"
    ]
    assert lab.verify(lab.one()["chain"], told["trust"], told["crl"]) == "OK"


def test_an_unknown_serial(lab: Lab) -> None:
    lab.bootstrap()
    with pytest.raises(BcmError, match=f"^No certificate with serial 2a was issued for {DOMAIN}, or it has expired: "):
        lab.authority.crl({42: "unspecified"})


# -- faults -----------------------------------------------------------------------------------------------------------


def test_outside_of_what_may_be_certified(lab: Lab) -> None:
    lab.bootstrap()
    before = lab.files()
    for names in (["www.example.org"], ["10.9.9.9"], ["fd00::1"], [f"not{DOMAIN}"]):
        with pytest.raises(BcmError, match=rf'^"{names[0]}" of certificate x is outside of what .*10.1.2.0/24\)'):
            lab.issue("electrs", want("x", names, ["server"]))
    with pytest.raises(BcmError, match=r'^"wallet.example.org" of certificate x is outside'):
        lab.issue(want("x", [], ["client"], common_name="wallet.example.org"))
    assert lab.files() == before


def test_a_wider_scope_makes_a_new_intermediate(lab: Lab) -> None:
    lab.bootstrap()
    lab.issue("electrs")
    wider = replace(lab, authority=replace(lab.authority, scope=pki.scope([DOMAIN, "localhost"], ["10.1.2.0/24"])))
    assert wider.authority.intermediate().changed
    assert not wider.authority.intermediate().changed
    assert not wider.issue("electrs").changed
    one = wider.one(want("x", ["localhost"], ["server"]))
    assert wider.verify(one["chain"], wider.report()["trust"]) == "OK"
    # and back again: the first one is still good
    assert not lab.authority.intermediate().changed
    first, _second = lab.report()["intermediates"]
    assert first["certificate"] in lab.one("lxd")["chain"]


def test_check_mode_foretells_a_wider_scope(lab: Lab) -> None:
    lab.bootstrap()
    wider = replace(lab.authority, scope=pki.scope([DOMAIN, "localhost"], []), check=True)
    assert wider.intermediate().changed
    assert wider.certificates([want("x", ["localhost"], ["server"])]).changed


@pytest.mark.parametrize("names", [["electrs home"], ["-x"], ["a..b"], ["ä.bcm"], [""]])
def test_names_that_are_none(names: list[str]) -> None:
    with pytest.raises(BcmError, match="^.* of certificate x is neither a host name nor an address: correct it$"):
        want("x", names, ["server"])


def test_wants_that_cannot_be() -> None:
    with pytest.raises(BcmError, match="^Certificate x is for a server, but has no names"):
        want("x", [], ["server"])
    with pytest.raises(BcmError, match="^Certificate x cannot be had as PKCS#12"):
        want("x", [], ["client"], csr="...", pkcs12=True)
    with pytest.raises(BcmError, match='^Certificate x cannot be called "y+": 64'):
        want("x", [], ["client"], common_name="y" * 65)


def test_nothing_to_sign_with(lab: Lab) -> None:
    with pytest.raises(BcmError, match=f"^There is no root of {DOMAIN} yet: make it first, with ca_root$"):
        lab.issue("electrs")
    lab.authority.root(None, allow_new=True)
    with pytest.raises(BcmError, match=f"^The intermediate of {DOMAIN} is not there, or has expired: run ca_interm"):
        lab.issue("electrs")


def test_a_lost_key_of_the_intermediate(wallet: Lab) -> None:
    wallet.bootstrap()
    wallet.issue("electrs")
    wallet.authority.crl({})
    wallet.authority.store.private.unlink()
    with pytest.raises(BcmError, match=r"^The key of .* is not in .*regtest.keys.json: .* or set replace_lost"):
        wallet.authority.intermediate()
    with pytest.raises(BcmError, match=r"^The intermediate of .* has no key in .*: run ca_intermediate first"):
        wallet.issue("electrs")
    assert wallet.authority.intermediate(replace_lost=True).changed
    assert not wallet.authority.intermediate(replace_lost=True).changed
    assert wallet.issue("electrs").after[0].endswith("(another issuer)")
    assert wallet.authority.crl({}).changed
    told = wallet.report()
    assert [row["revoked"] for row in told["intermediates"]] == [True, False]
    assert wallet.verify(wallet.one()["chain"], told["trust"], told["crl"]) == "OK"
    assert "certificate revoked" in wallet.verify(told["intermediates"][0]["certificate"], told["trust"], told["crl"])


def test_a_lost_key_of_a_leaf(lab: Lab) -> None:
    lab.bootstrap()
    lab.issue("electrs")
    keys = lab.authority.store.keys()
    del keys[pki.key_id(lab.authority.book().leaves["electrs"].certificate.public_key())]
    lab.authority.store.private.write_text(json.dumps(keys), encoding="utf-8")
    assert lab.issue("electrs").after[0].endswith("(its key is lost)")


def test_a_lost_root_key(lab: Lab) -> None:
    lab.authority.root(None, allow_new=True)
    lab.authority.store.private.unlink()
    with pytest.raises(BcmError, match=r"^The key of root g1 of .* is not in .*regtest.keys.json: put the file back"):
        lab.authority.intermediate()


@pytest.mark.parametrize("days", [-1, 0, 3_000_000, 10**12])
def test_a_time_that_cannot_be(lab: Lab, days: int) -> None:
    authority = lab.authority
    wants = [lab.want("electrs")]
    for work in (
        lambda: authority.root(None, allow_new=True, days=days),
        lambda: authority.intermediate(days=days),
        lambda: authority.certificates(wants, days=days),
        lambda: authority.everything(wants, allow_new=True, days=days),
    ):
        with pytest.raises(BcmError, match=f"cannot be good for {days} days: write 1 to 36500"):
            work()
    assert authority.book().root is None


def test_the_root_of_another_data_center(lab: Lab, make: Callable[..., Lab]) -> None:
    lab.bootstrap()
    with pytest.raises(BcmError, match=rf"regtest.pki.json is of another data center, .* {DOMAIN}, not of away.bcm: "):
        make(domains=["away.bcm"]).issue("electrs")
    with pytest.raises(BcmError, match=rf"^The root of {DOMAIN} is kept by provider software, not trezor: "):
        make(provider="trezor", opener=_never).authority.intermediate()


def test_a_certificate_of_another_authority_is_no_part(lab: Lab, make: Callable[..., Lab]) -> None:
    lab.bootstrap()
    content = json.loads(lab.authority.store.public.read_text())
    key = pki.new_key()
    other = pki.root(f"{DOMAIN} root g1", key, lab.authority.now, lab.authority.now + timedelta(days=1))
    content["roots"][0]["certificate"] = pki.pem(other)
    lab.authority.store.public.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BcmError, match=r"regtest.pki.json is damaged, its certificates do not fit together"):
        lab.authority.intermediate()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "it holds no JSON"),
        ("[]", "it holds no mapping"),
        ('{"format": 1}', "do not fit"),
        ("{}", "of format None"),
    ],
)
def test_a_damaged_file(lab: Lab, content: str, fault: str) -> None:
    lab.bootstrap()
    lab.authority.store.public.write_text(content, encoding="utf-8")
    with pytest.raises(BcmError, match=f"regtest.pki.json is .*{fault}"):
        lab.authority.intermediate()


def test_a_full_disk_leaves_what_there_was(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.bootstrap()
    lab.issue("electrs")
    before = lab.files()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for number in range(4):  # keys, their flush, public, its flush
        calls = iter([None] * number + [full] * 9)
        monkeypatch.setattr("os.fsync", MagicMock(side_effect=lambda handle, calls=calls: _raise(next(calls))))
        if number == 3:
            break
        with pytest.raises(BcmError, match="No space left on device; nothing was changed: make it writable"):
            lab.later(days=25).issue("electrs")
        assert {name: lab.files()[name] for name in before if "pki" in name} == {
            name: content for name, content in before.items() if "pki" in name
        }
        assert {path.name for path in lab.folder.iterdir()} == {*before, ".gitignore", ".regtest.pki.lock"}
    monkeypatch.undo()
    assert lab.later(days=25).issue("electrs").changed


def _raise(error: Any) -> None:
    if error:
        raise error


def test_private_files_are_private(lab: Lab) -> None:
    lab.bootstrap()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (lab.folder, *lab.folder.iterdir())}
    assert (modes["secrets"], modes["regtest.keys.json"], modes["regtest.pki.json"]) == (0o700, 0o600, 0o644)
    assert "PRIVATE" not in lab.authority.store.public.read_text()


def test_private_keys_are_not_read_when_nothing_is_to_be_done(lab: Lab) -> None:
    lab.bootstrap()
    lab.authority.crl({})
    lab.authority.store.private.write_text("{", encoding="ascii")
    assert not lab.authority.root(None, allow_new=False).changed
    assert not lab.authority.crl({}).changed
    with pytest.raises(BcmError, match=r"regtest.keys.json is damaged"):
        lab.authority.intermediate()


def test_drafts_of_a_killed_run_are_removed(lab: Lab) -> None:
    lab.bootstrap()
    before = {path.name for path in lab.folder.iterdir()}
    for name in (".regtest.keys.json.a1b2c3d4", ".regtest.pki.json.a1b2c3d4"):
        (lab.folder / name).write_text("{", encoding="ascii")
    lab.issue("electrs")
    assert {path.name for path in lab.folder.iterdir()} == before


def test_another_run_that_does_not_end(lab: Lab) -> None:
    lab.bootstrap()
    with held(lab.folder / ".regtest.pki.lock"), pytest.raises(BcmError, match="^Another run has been at work on .*:"):
        lab.issue("electrs")


def test_runs_at_once_agree(lab: Lab) -> None:
    lab.bootstrap()
    patient = replace(lab, authority=replace(lab.authority, store=Store(lab.folder, "regtest", patience=30)))
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(patient.issue("a", "b").changed)) for _n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 5 + [True]
