# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An authority over time: nothing twice, nothing too late, nothing half."""

from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import ssl
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any
from unittest.mock import MagicMock

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.locks import hold_lock
from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Result
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles, _with_seal
from ansible_collections.bcm.core.plugins.module_utils._ca.certificate_request import new_request, renewal_request
from ansible_collections.bcm.core.plugins.module_utils._ca.report import certificate_report
from ansible_collections.bcm.core.plugins.module_utils._ca.signer import Identity, Signer
from ansible_collections.bcm.core.plugins.module_utils._ca.software import SoftwareSigner

from .conftest import DOMAIN, NOW, Lab, foreign


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
    return make(provider="trezor", open_keys=device.opener)


def _everything(lab: Lab) -> list[bool]:
    authority = lab.authority
    done = [authority.ensure_root(None, allow_new=True), authority.ensure_intermediate(), lab.issue("electrs", "lxd")]
    return [*(result.changed for result in done), authority.ensure_lists({}).changed]


def test_nothing_is_done_twice_and_no_device_is_asked(wallet: Lab, device: Device) -> None:
    assert _everything(wallet) == [True] * 4
    assert [line.rsplit(" ", 1)[0] for line in device.shown] == ["root g1", "inter g1", "crl g1"]
    before = wallet.files()
    asleep = replace(wallet, authority=replace(wallet.authority, open_keys=_never))
    assert _everything(asleep) == [False] * 4
    assert wallet.files() == before


def test_check_mode_predicts_without_a_device(make: Callable[..., Lab]) -> None:
    lab = make(provider="trezor", open_keys=_never, check_mode=True)
    assert _everything(lab) == [True] * 4
    assert not lab.folder.exists()


def test_device_shows_the_confirmations(wallet: Lab, device: Device) -> None:
    assert wallet.authority.ensure_root(None, allow_new=True).signed == device.shown
    assert wallet.authority.ensure_root(2, allow_new=True).signed == device.shown[1:]
    assert device.sessions == [(True, 1), (False, 2)]
    assert all(len(shown) <= 21 for shown in device.shown)


def test_a_mistyped_passphrase_begins_no_generation(wallet: Lab, device: Device) -> None:
    wallet.authority.ensure_root(None, allow_new=True)
    device.keys = {1: pki.new_key()}
    device.shown.clear()
    for late in (wallet, wallet.later(days=3651)):
        with pytest.raises(BcmError, match="^The device has another key than root g1"):
            late.authority.ensure_root(2, allow_new=True)
    assert device.shown == []


def test_confirmations_before_a_cancel_are_kept(wallet: Lab, device: Device) -> None:
    wallet.bootstrap()
    device.cancel_at = 4
    with pytest.raises(BcmError, match="Cancelled"):
        wallet.issue("a", "b", "c", direct=True)
    assert [row["name"] for row in wallet.report()["certificates"]] == ["a"]
    device.cancel_at = 0
    assert wallet.issue("a", "b", "c", direct=True).before == ["", ""]


def test_another_device_signs_nothing(wallet: Lab, device: Device) -> None:
    wallet.authority.ensure_root(None, allow_new=True)
    before = wallet.files()
    device.keys = {1: pki.new_key()}
    device.shown.clear()
    with pytest.raises(BcmError, match=f"^The device has another key than root g1 of {DOMAIN}: "):
        wallet.authority.ensure_intermediate()
    assert device.shown == []
    assert wallet.files() == before


def test_all_in_one_session(wallet: Lab, device: Device) -> None:
    wants = [wallet.want("electrs"), wallet.want("hello")]
    done = wallet.authority.ensure_all(wants, allow_new=True)
    assert [text.split()[0] for text in done.signed] == ["root", "inter", "crl"]
    assert device.sessions == [(True, 3)]
    report = wallet.report()
    assert [item["name"] for item in report["certificates"]] == ["electrs", "hello"]
    leaf = certificate_report(wants[0], done.database, wallet.authority.now, done.keys)
    assert wallet.verify(leaf["chain"], report["trust"], report["crl"]) == "OK"
    assert not wallet.authority.ensure_all(wants).changed
    assert device.sessions == [(True, 3)]


def test_check_mode_reports_every_signature(make: Callable[..., Lab], wallet: Lab) -> None:
    wants = [wallet.want("electrs")]
    dry_run = replace(wallet.authority, check_mode=True).ensure_all(wants, allow_new=True)
    assert (dry_run.signed, dry_run.database.roots) == ([], [])
    assert not wallet.folder.exists()
    done = wallet.authority.ensure_all(wants, allow_new=True)
    assert (dry_run.before, dry_run.after) == (done.before, done.after)
    dry_run = replace(wallet.authority, check_mode=True).ensure_all(wants, generation=2, allow_new=True)
    done = wallet.authority.ensure_all(wants, generation=2, allow_new=True)
    assert (dry_run.before, dry_run.after) == (done.before, done.after)
    assert [text.split()[0] for text in done.signed] == ["root", "cross", "inter", "crl"]


def test_direct_issuance(wallet: Lab, device: Device) -> None:
    wallet.authority.ensure_root(None, allow_new=True)
    one = wallet.one(direct=True)
    wallet.authority.ensure_lists({})
    told = wallet.report()
    assert one["chain"] == one["certificate"]
    assert wallet.verify(one["chain"], told["trust"], told["crl"]) == "OK"
    assert [line.split()[0] for line in device.shown] == ["root", "leaf", "crl"]
    assert device.sessions == [(True, 1), (False, 1), (False, 1)]
    assert not wallet.issue("electrs", direct=True).changed


# -- time -------------------------------------------------------------------------------------------------------------


def test_only_due_certificates_are_renewed(lab: Lab) -> None:
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


def test_a_valid_certificate_is_renewed_on_request(lab: Lab) -> None:
    """A key that is in the vault is another one then; one that is elsewhere stays."""
    lab.bootstrap()
    here = replace(lab.want("here"), pkcs12=True)
    lab.issue(here, replace(lab.want("there"), usage=("client",)))
    book = lab.authority.read_database()
    before = book.leaves
    vault = lab.authority.files.keys()
    del vault[before["there"].certificate.key]
    wants = [renewal_request(name, book, vault) for name in before]
    assert wants[0] == here
    assert lab.issue(*wants).changed is False
    done = lab.issue(*(replace(item, renew=True) for item in wants))
    assert [line.rpartition("(")[2] for line in done.after] == ["asked for)", "here: PKCS#12", "asked for)"]
    renewed = lab.authority.read_database()
    after = renewed.leaves
    same = {name: leaf.certificate.key == after[name].certificate.key for name, leaf in before.items()}
    assert same == {"here": False, "there": True}
    assert all(leaf.certificate.serial != after[name].certificate.serial for name, leaf in before.items())
    assert [renewal_request(name, renewed, vault).usage for name in after] == [item.usage for item in wants]


def test_check_mode_lists_the_signatures(wallet: Lab, device: Device) -> None:
    check = replace(wallet, authority=replace(wallet.authority, check_mode=True))
    results = [
        check.authority.ensure_root(None, allow_new=True),
        check.authority.ensure_intermediate(),
        check.authority.ensure_lists({}),
    ]
    assert [result.confirmations for result in results] == [["root g1"], ["inter g1"], ["crl g1"]]
    _everything(wallet)
    assert [text.rsplit(" ", 1)[0] for text in device.shown] == ["root g1", "inter g1", "crl g1"]
    assert check.authority.ensure_root(2, allow_new=True).confirmations == ["root g2", "cross g1"]
    assert check.issue("a", "b", direct=True).confirmations == ["leaf g1", "leaf g1"]
    assert check.issue("a", "b").confirmations == []


#: what has happened to an authority -> what is asked for next
def _lose_intermediate(lab: Lab) -> None:
    _of_electrs(lab, allow_new=True)
    lab.lose(lab.authority.read_database().intermediates[0].key)


DRY_RUNS: dict[str, tuple[Callable[[Lab], object], dict[str, Any]]] = {
    "nothing": (lambda lab: None, {"allow_new": True}),
    "nothing, direct": (lambda lab: None, {"allow_new": True, "direct": True}),
    "all of it": (lambda lab: _of_electrs(lab, allow_new=True), {}),
    "a root": (lambda lab: lab.authority.ensure_root(None, allow_new=True), {}),
    "rotated": (lambda lab: _of_electrs(lab, allow_new=True), {"generation": 2, "allow_new": True}),
    "rotated, direct": (
        lambda lab: _of_electrs(lab, allow_new=True, direct=True),
        {"generation": 2, "allow_new": True, "direct": True},
    ),
    "compromised": (
        lambda lab: _of_electrs(lab, allow_new=True),
        {"generation": 2, "allow_new": True, "compromised": True},
    ),
    "a lost key": (_lose_intermediate, {"replace_lost": True}),
    "a lost file": (
        lambda lab: (_of_electrs(lab, allow_new=True), lab.authority.files.private.unlink()),
        {"replace_lost": True},
    ),
    "direct from now on": (lambda lab: _of_electrs(lab, allow_new=True), {"direct": True}),
}


@pytest.mark.parametrize("days", [0, 25, 70, 95])
@pytest.mark.parametrize("what", DRY_RUNS)
def test_dry_run_lists_actions_and_signatures(wallet: Lab, device: Device, what: str, days: int) -> None:
    """In check mode there is no device, and what is said is what is done."""
    prepare, options = DRY_RUNS[what]
    prepare(wallet)
    device.shown.clear()
    device.sessions.clear()
    now = wallet.later(days=days)
    before = now.files() if now.folder.exists() else {}
    check = replace(now, authority=replace(now.authority, check_mode=True, open_keys=_never))
    phone = replace(new_request("phone", [], ["client"]), by_root=True)
    wants = [now.want("electrs"), replace(now.want("nas"), pkcs12=True), phone]
    dry_run = check.authority.ensure_all(wants, **options)
    assert (now.files() if now.folder.exists() else {}) == before
    done = now.authority.ensure_all(wants, **options)
    assert (dry_run.before, dry_run.after, dry_run.confirmations) == (done.before, done.after, done.confirmations)
    assert [text.rsplit(" ", 1)[0] for text in device.shown] == dry_run.confirmations
    assert [confirmations for _first, confirmations in device.sessions] == [len(dry_run.confirmations)]
    options = {**options, "replace_lost": False}
    assert not now.authority.ensure_all(wants, **options).changed


def test_a_new_intermediate_leaves_leaves_alone(lab: Lab) -> None:
    lab.bootstrap()
    later = lab.later(days=59)
    later.issue("electrs")
    assert not later.authority.ensure_intermediate().changed
    now = lab.later(days=61)
    assert now.authority.ensure_intermediate().changed
    assert not now.issue("electrs").changed
    one = now.one()
    assert now.authority.ensure_lists({}).changed
    told = now.report()
    assert now.verify(one["chain"], told["trust"], told["crl"]) == "OK"
    fresh = now.one("lxd")
    assert now.verify(fresh["chain"], told["trust"], told["crl"]) == "OK"


def test_an_expired_certificate_is_in_one_more_list(lab: Lab) -> None:
    """RFC 5280, 3.3: in one that was made after its end, and until then in all."""
    lab.bootstrap()
    short = new_request("short", [], ["client"])
    serial = int(lab.one(short, days=3)["serial"], 16)
    lab.issue(new_request("good", [], ["client"]), days=3)

    def listed(now: Lab, **revoke: Any) -> tuple[bool, bool]:
        changed = now.authority.ensure_lists(revoke.get("serials", {})).changed
        crl = now.authority.read_database().intermediates[0].crl
        assert crl is not None
        return changed, crl.get_revoked_certificate_by_serial_number(serial) is not None

    assert listed(lab, serials={serial: "superseded"}) == (True, True)
    # something else is issued, and revoked, before its end: that list does not count
    day = lab.later(days=2)
    other = int(day.one(new_request("other", [], ["client"]))["serial"], 16)
    assert listed(day, serials={other: "superseded"}) == (True, True)
    assert listed(lab.later(days=4)) == (False, True)
    assert listed(lab.later(days=24)) == (True, True)  # regularly, and after its end
    assert serial not in lab.later(days=24).authority.read_database().serials
    assert listed(lab.later(days=25)) == (False, True)
    assert listed(lab.later(days=45)) == (True, False)
    assert all(item.name != "good" for item in lab.later(days=45).authority.read_database().serials.values())


def test_expired_revocations_leave_the_lists(lab: Lab) -> None:
    """A certificate that ends with its issuer, and one whose issuer was revoked."""
    lab.bootstrap()
    last = lab.later(days=60)
    serial = int(last.one("electrs")["serial"], 16)
    last.authority.ensure_lists({serial: "superseded"})
    assert serial in last.authority.read_database().serials
    late = lab.later(days=91)
    late.bootstrap()
    assert serial not in late.authority.read_database().serials


def test_lists_are_renewed(lab: Lab) -> None:
    lab.bootstrap().authority.ensure_lists({})
    assert not lab.later(days=19).authority.ensure_lists({}).changed
    assert [line.split(":")[0][:7] for line in lab.later(days=21).authority.ensure_lists({}).after] == ["list of"]
    assert len(lab.later(days=61).authority.ensure_lists({}).after) == 2


def test_a_clock_that_goes_back(lab: Lab) -> None:
    lab.bootstrap()
    with pytest.raises(BcmError, match=r"^The clock is wrong: it says 2026-05-30 12:00 UTC, .* written at 2026-06-01"):
        lab.later(days=-2).issue("electrs")
    with pytest.raises(BcmError, match="^The clock is wrong, it says 1970-01-31"):
        replace(lab.authority, now=lab.authority.now - timedelta(days=20575)).ensure_lists({})


def test_an_expired_root(lab: Lab) -> None:
    lab.bootstrap()
    lab.issue("electrs")
    late = lab.later(days=3651)
    before = lab.files()
    for work in (
        lambda: late.authority.ensure_root(None, allow_new=False),
        late.authority.ensure_intermediate,
        lambda: late.issue("electrs"),
        lambda: late.authority.ensure_lists({}),
    ):
        with pytest.raises(BcmError, match=r"^Root g1 of .* has expired on 2036-05-29, today is 2036-05-30: set the "):
            work()
    assert lab.files() == before
    assert late.authority.ensure_root(2, allow_new=True).changed
    late.authority.ensure_intermediate()
    told = late.report()
    assert late.verify(late.one()["chain"], told["trust"]) == "OK"


# -- rotation ---------------------------------------------------------------------------------------------------------


def test_rotation_keeps_clients_of_the_old_root_connected(wallet: Lab, device: Device) -> None:
    wallet.bootstrap()
    old = wallet.one()
    wallet.authority.ensure_lists({})
    old_trust = wallet.report()["trust"]
    device.shown.clear()
    now = wallet.later(days=5)
    assert now.authority.ensure_root(2, allow_new=True).changed
    assert not now.authority.ensure_root(2, allow_new=False).changed
    assert now.authority.ensure_intermediate().changed
    assert now.issue("electrs").after[0].endswith("(another issuer)")
    now.authority.ensure_lists({})
    assert [line.rsplit(" ", 1)[0] for line in device.shown] == ["root g2", "cross g1", "inter g2", "crl g2"]
    new, told = now.one(), now.report()
    new_trust = told["roots"][1]["certificate"]
    assert told["trust"] == new_trust + old_trust
    for trust in (old_trust, new_trust):
        assert now.verify(new["chain"], trust, told["crl"]) == "OK"
    assert now.verify(old["chain"], told["trust"], told["crl"]) == "OK"
    # once nothing rests on the old root any more, it is not trusted, and signs no more lists
    late = wallet.later(days=100)
    late.authority.ensure_intermediate()
    device.shown.clear()
    late.issue("electrs")
    late.authority.ensure_lists({})
    assert [line.rsplit(" ", 1)[0] for line in device.shown] == ["crl g2"]
    assert late.report()["trust"] == new_trust
    assert late.verify(late.one()["chain"], new_trust, late.report()["crl"]) == "OK"


def test_two_rotations_keep_clients_of_any_root_connected(lab: Lab) -> None:
    """Each root is reached from each one before it, as long as the bridges in between are good."""
    everything = partial(_of_electrs, allow_new=True)
    trust = []
    for generation, days in ((1, 0), (2, 5), (3, 40), (4, 80)):
        now = lab.later(days=days)
        everything(now, generation=generation)
        told = now.report()
        trust.append(told["roots"][-1]["certificate"])
        assert told["trust"] == "".join(reversed(trust))
        for root in trust:
            assert now.verify(now.one()["chain"], root, told["crl"]) == "OK"
    # the bridge from the first to the second root ended after 90 days, and nobody has to keep the first one
    now = lab.later(days=96)
    everything(now)
    told = now.report()
    assert told["trust"] == "".join(reversed(trust[1:]))
    assert "unable to get" in now.verify(now.one()["chain"], trust[0], told["crl"])
    for root in trust[1:]:
        assert now.verify(now.one()["chain"], root, told["crl"]) == "OK"


def _of_electrs(lab: Lab, **options: Any) -> Result:
    return lab.authority.ensure_all([lab.want("electrs")], **options)


def test_after_a_compromise_nothing_rests_on_the_roots_before(wallet: Lab, device: Device) -> None:
    for generation in (1, 2):
        _of_electrs(wallet, generation=generation, allow_new=True)
    old = wallet.report()
    device.shown.clear()
    options: dict[str, Any] = {"generation": 3, "allow_new": True, "compromised": True}
    dry_run = _of_electrs(replace(wallet, authority=replace(wallet.authority, check_mode=True)), **options)
    done = _of_electrs(wallet, **options)
    assert (dry_run.after, dry_run.confirmations) == (done.after, ["root g3", "inter g3", "crl g3"])
    assert [line.rsplit(" ", 1)[0] for line in device.shown] == ["root g3", "inter g3", "crl g3"]
    told = wallet.report()
    assert [root["trusted"] for root in told["roots"]] == [False, False, True]
    assert told["trust"] == told["roots"][2]["certificate"]
    chain = wallet.one()["chain"]
    assert wallet.verify(chain, told["trust"], told["crl"]) == "OK"
    for root in old["roots"]:
        assert "unable to get" in wallet.verify(chain, root["certificate"])
    assert not _of_electrs(wallet).changed
    # the next rotation is one as any other
    _of_electrs(wallet, generation=4, allow_new=True)
    assert [root["trusted"] for root in wallet.report()["roots"]] == [False, False, True, True]


def test_a_new_root_needs_consent(lab: Lab) -> None:
    consent = f"^A new root of {DOMAIN} needs your consent, it has none yet: type `bcm ca init`, or set allow_new_root"
    with pytest.raises(BcmError, match=consent):
        lab.authority.ensure_root(None, allow_new=False)
    lab.bootstrap()
    with pytest.raises(BcmError, match="needs your consent, generation 2 would follow 1: type `bcm ca rotate`, or set"):
        lab.authority.ensure_root(2, allow_new=False)
    with pytest.raises(BcmError, match=r"^Generation 4 of the root of .* cannot follow 1: write 2"):
        lab.authority.ensure_root(4, allow_new=True)


# -- revocation -------------------------------------------------------------------------------------------------------


def test_a_revoked_certificate_is_refused_and_replaced(lab: Lab) -> None:
    lab.bootstrap()
    one, other = lab.one(), lab.one("lxd")
    lab.authority.ensure_lists({})
    serial = {int(one["serial"], 16): "key_compromise"}
    outcome = lab.authority.ensure_lists(serial)
    assert outcome.before[0] == f"electrs {one['serial']}: good"
    assert outcome.after[0] == f"electrs {one['serial']}: revoked, key_compromise"
    assert not lab.authority.ensure_lists(serial).changed
    assert not lab.authority.ensure_lists({}).changed
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
        lab.authority.ensure_lists({42: "unspecified"})


# -- faults -----------------------------------------------------------------------------------------------------------


def test_names_outside_of_the_constraints_are_refused(lab: Lab) -> None:
    lab.bootstrap()
    before = lab.files()
    for names in (["www.example.org"], ["10.9.9.9"], ["fd00::1"], [f"not{DOMAIN}"]):
        with pytest.raises(BcmError, match=rf'^"{names[0]}" of certificate x is outside of what .*10.1.2.0/24\)'):
            lab.issue("electrs", new_request("x", names, ["server"]))
    with pytest.raises(BcmError, match=r'^"wallet.example.org" of certificate x is outside'):
        lab.issue(new_request("x", [], ["client"], common_name="wallet.example.org"))
    assert lab.files() == before


def test_a_wider_scope_makes_a_new_intermediate(lab: Lab) -> None:
    lab.bootstrap()
    lab.issue("electrs")
    scope = pki.parse_scope([DOMAIN, "localhost"], ["10.1.2.0/24"])
    wider = replace(lab, authority=replace(lab.authority, scope=scope))
    assert wider.authority.ensure_intermediate().changed
    assert not wider.authority.ensure_intermediate().changed
    assert not wider.issue("electrs").changed
    one = wider.one(new_request("x", ["localhost"], ["server"]))
    assert wider.verify(one["chain"], wider.report()["trust"]) == "OK"
    # and back again: the first one is still good
    assert not lab.authority.ensure_intermediate().changed
    first, _second = lab.report()["intermediates"]
    assert first["certificate"] in lab.one("lxd")["chain"]


def test_check_mode_reports_a_wider_scope(lab: Lab) -> None:
    lab.bootstrap()
    wider = replace(lab.authority, scope=pki.parse_scope([DOMAIN, "localhost"], []), check_mode=True)
    assert wider.ensure_intermediate().changed
    assert wider.ensure_certificates([new_request("x", ["localhost"], ["server"])]).changed


@pytest.mark.parametrize("names", [["electrs home"], ["-x"], ["a..b"], ["ä.bcm"], [""]])
def test_invalid_names_are_refused(names: list[str]) -> None:
    with pytest.raises(BcmError, match="^.* of certificate x is neither a host name nor an address: correct it$"):
        new_request("x", names, ["server"])


def test_invalid_requests_are_refused() -> None:
    with pytest.raises(BcmError, match="^Certificate x is for a server, but has no names"):
        new_request("x", [], ["server"])
    with pytest.raises(BcmError, match="^Certificate x cannot be had as PKCS#12"):
        new_request("x", [], ["client"], csr="...", pkcs12=True)
    with pytest.raises(BcmError, match='^Certificate x cannot be called "y+": 64'):
        new_request("x", [], ["client"], common_name="y" * 65)


def test_nothing_to_sign_with(lab: Lab) -> None:
    with pytest.raises(BcmError, match=f"^There is no root of {DOMAIN} yet: make it first, with ca_root$"):
        lab.issue("electrs")
    lab.authority.ensure_root(None, allow_new=True)
    with pytest.raises(BcmError, match=f"^The intermediate of {DOMAIN} is not there, or has expired: run ca_interm"):
        lab.issue("electrs")


def test_a_lost_key_of_the_intermediate(wallet: Lab) -> None:
    wallet.bootstrap()
    wallet.issue("electrs")
    wallet.authority.ensure_lists({})
    wallet.lose(wallet.authority.read_database().intermediates[0].key)
    with pytest.raises(BcmError, match=r"^The key of .* is not in .*regtest.keys.json: .* or set replace_lost"):
        wallet.authority.ensure_intermediate()
    with pytest.raises(BcmError, match=r"^The intermediate of .* has no key in .*: run ca_intermediate first"):
        wallet.issue("lxd")
    assert wallet.authority.ensure_intermediate(replace_lost=True).changed
    assert not wallet.authority.ensure_intermediate(replace_lost=True).changed
    assert wallet.issue("electrs").after[0].endswith("(another issuer)")
    assert wallet.authority.ensure_lists({}).changed
    told = wallet.report()
    assert [row["revoked"] for row in told["intermediates"]] == [True, False]
    assert wallet.verify(wallet.one()["chain"], told["trust"], told["crl"]) == "OK"
    assert "certificate revoked" in wallet.verify(told["intermediates"][0]["certificate"], told["trust"], told["crl"])


def test_lost_private_file(wallet: Lab) -> None:
    """Nothing tells whether the public file is the newest; somebody has to say that it is."""
    _everything(wallet)
    wallet.authority.files.private.unlink()
    authority = wallet.authority
    for work in (authority.ensure_intermediate, lambda: authority.ensure_lists({}), lambda: wallet.issue(direct=True)):
        with pytest.raises(BcmError, match=r"regtest.keys.json is missing, .* set replace_lost .*--replace-lost"):
            work()
    assert wallet.authority.ensure_intermediate(replace_lost=True).changed
    assert [row["revoked"] for row in wallet.report()["intermediates"]] == [True, False]
    wallet.edit(lambda content: content.update(written=f"{NOW.isoformat()}Z"))
    with pytest.raises(BcmError, match="its seal is broken"):
        wallet.authority.read_database()


def test_lost_private_file_of_an_authority_without_an_intermediate(wallet: Lab) -> None:
    everything = partial(wallet.authority.ensure_all, [], allow_new=True, direct=True)
    everything()
    wallet.authority.files.private.unlink()
    assert everything(replace_lost=True).changed
    assert not everything(replace_lost=True).changed
    assert not everything().changed


def _edits() -> dict[str, Callable[[dict[str, Any]], object]]:
    def of_serial(content: dict[str, Any], **changes: Any) -> None:
        for item in content["serials"].values():
            if item["revoked"]:
                item.update(changes)

    def forget_serial(content: dict[str, Any]) -> None:
        content["serials"] = {number: item for number, item in content["serials"].items() if not item["revoked"]}

    return {
        "not revoked": lambda content: of_serial(content, revoked=None),
        "revoked later": lambda content: of_serial(content, revoked="2030-01-01T00:00:00+00:00"),
        "expired": lambda content: of_serial(content, end="2026-01-01T00:00:00+00:00"),
        "never issued": forget_serial,
        "no list": lambda content: content["intermediates"][0].update(crl=None),
        "no root": lambda content: content.update(roots=[], intermediates=[], certificates={}),
        "another generation": lambda content: content["roots"][0].update(index=2),
        "another provider": lambda content: content.update(provider="trezor"),
        "written later": lambda content: content.update(count=99),
        "no count": lambda content: content.pop("count"),
        "no seal": lambda content: content.pop("seal"),
        "a seal without a signature": lambda content: content["seal"].pop("signature"),
        "a seal that is none": lambda content: content.update(seal="x"),
        "a key that is none": lambda content: content["seal"].update(key="00"),
        "one more field": lambda content: content.update(more=1),
    }


@pytest.mark.parametrize("edit", _edits())
def test_edited_public_file_is_refused(lab: Lab, edit: str) -> None:
    _everything(lab)
    leaf = lab.authority.read_database().leaves["electrs"].certificate
    lab.authority.ensure_lists({leaf.serial: "key_compromise"})
    lab.edit(_edits()[edit])
    before = lab.files()
    without_vault = replace(lab.authority, files=AuthorityFiles(lab.folder, "regtest", vault=None))
    authority = lab.authority
    for work in (authority.ensure_intermediate, lambda: lab.issue("electrs"), lambda: authority.ensure_lists({}),
                 lambda: authority.ensure_root(None, allow_new=True), without_vault.read_database):  # fmt: skip
        with pytest.raises(BcmError, match=r"^.*regtest.pki.json was changed by something other than bcm, its seal is"):
            work()
    assert lab.files() == before


def test_another_seal_is_noticed_with_the_private_file(lab: Lab) -> None:
    lab.bootstrap()
    private = lab.authority.files.private.read_text()
    lab.authority.files.private.write_text(json.dumps({**json.loads(private), "seal": "11" * 32}))
    lab.edit(lambda content: content["serials"].clear(), seal=True)
    lab.authority.files.private.write_text(private)
    with pytest.raises(BcmError, match="its seal is broken"):
        lab.authority.read_database()


def test_older_public_file_is_refused(lab: Lab) -> None:
    _everything(lab)
    older = lab.authority.files.public.read_bytes()
    leaf = lab.authority.read_database().leaves["electrs"].certificate
    lab.authority.ensure_lists({leaf.serial: "key_compromise"})
    lab.authority.files.public.write_bytes(older)
    with pytest.raises(BcmError, match=r"pki.json is older than regtest.keys.json, .*, which begins generation 2$"):
        lab.authority.ensure_lists({})


@pytest.mark.parametrize("at", [1, 2, 3])
def test_killed_while_writing_is_no_fault(lab: Lab, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Private file, public file, private file: whatever was written last, the next run goes on."""
    for work in (lambda: lab.authority.ensure_root(None, allow_new=True), lab.authority.ensure_intermediate):
        calls, rename = iter(range(1, 9)), os.replace

        def killed(*names: Any, calls: Any = calls, rename: Any = rename) -> None:
            if next(calls) == at:
                raise KeyboardInterrupt
            rename(*names)

        monkeypatch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            work()
        monkeypatch.undo()
        assert work().changed == (at < 3)
        assert not work().changed


def test_lost_public_file_begins_the_next_generation(lab: Lab) -> None:
    _everything(lab)
    leaf = lab.authority.read_database().leaves["electrs"].certificate
    crl = lab.authority.ensure_lists({leaf.serial: "key_compromise"}).database.intermediates[0].crl
    assert crl is not None
    kept = lab.authority.files.private.read_bytes()
    lab.authority.files.public.unlink()
    for generation in (None, 1, 3):
        fault = "is lost, and with it what was revoked" if generation is None else "cannot follow 1: write 2"
        with pytest.raises(BcmError, match=fault):
            lab.authority.ensure_all([], generation=generation, allow_new=True)
        assert lab.authority.files.private.read_bytes() == kept
    made = lab.authority.ensure_all([], generation=2, allow_new=True).database
    assert made.root and (made.root.index, made.root.cross) == (2, None)
    lists = [item.crl for item in (made.root, *made.intermediates) if item.crl]
    assert all(pki.crl_number(item) > pki.crl_number(crl) - 3 for item in lists)
    assert (lab.folder / "regtest.keys.g1.json").read_bytes() == kept
    assert stat.S_IMODE((lab.folder / "regtest.keys.g1.json").stat().st_mode) == 0o600
    later = lab.later(days=1)
    leaf = later.issue("electrs").database.leaves["electrs"].certificate
    revoked = later.authority.ensure_lists({leaf.serial: "superseded"}).database
    number = pki.crl_number(revoked.intermediates[0].crl)
    assert number > pki.crl_number(crl)
    # once more, and the number is that of the generation that was lost last
    lab.authority.files.public.unlink()
    assert lab.authority.files.lost_generation() == 2


@pytest.mark.parametrize("left", ["regtest.identity", "regtest.json", "regtest.onions.json"])
def test_lost_authority_of_a_data_center_that_was_used(wallet: Lab, device: Device, left: str) -> None:
    """A device makes the same key again, and with it what was revoked would be good."""
    wallet.folder.mkdir(parents=True)
    (wallet.folder / left).touch()
    with pytest.raises(BcmError, match=rf"has {left}, but not what .* with `bcm ca init --generation N`"):
        wallet.authority.ensure_root(None, allow_new=True)
    assert device.shown == []
    assert wallet.authority.ensure_root(4, allow_new=True).changed
    assert device.shown[0].startswith("root g4 ")


def test_a_lost_key_of_a_leaf(lab: Lab) -> None:
    lab.bootstrap()
    lab.issue("electrs")
    lab.lose(lab.authority.read_database().leaves["electrs"].certificate.key)
    assert lab.issue("electrs").after[0].endswith("(its key is lost)")


def test_a_lost_root_key(lab: Lab) -> None:
    lab.authority.ensure_root(None, allow_new=True)
    lab.lose(lab.authority.read_database().roots[0].key)
    with pytest.raises(BcmError, match=r"^The key of root g1 of .* is not in .*regtest.keys.json: put the file back"):
        lab.authority.ensure_intermediate()


@pytest.mark.parametrize("days", [-1, 0, 3_000_000, 10**12])
def test_an_invalid_time_is_refused(lab: Lab, days: int) -> None:
    authority = lab.authority
    wants = [lab.want("electrs")]
    for work in (
        lambda: authority.ensure_root(None, allow_new=True, days=days),
        lambda: authority.ensure_intermediate(days=days),
        lambda: authority.ensure_certificates(wants, days=days),
        lambda: authority.ensure_all(wants, allow_new=True, days=days),
    ):
        with pytest.raises(BcmError, match=f"cannot be good for {days} days: write 1 to 36500"):
            work()
    assert authority.read_database().root is None


def test_the_root_of_another_data_center(lab: Lab, make: Callable[..., Lab]) -> None:
    lab.bootstrap()
    with pytest.raises(BcmError, match=rf"regtest.pki.json is of another data center, .* {DOMAIN}, not of away.bcm: "):
        make(domains=["away.bcm"]).issue("electrs")
    with pytest.raises(BcmError, match=rf"^The root of {DOMAIN} is kept by provider software, not trezor: "):
        make(provider="trezor", open_keys=_never).authority.ensure_intermediate()


def test_a_certificate_of_another_authority_is_no_part(lab: Lab, make: Callable[..., Lab]) -> None:
    lab.bootstrap()
    key = pki.new_key()
    other = pki.sign_root(f"{DOMAIN} root g1", key, lab.authority.now, lab.authority.now + timedelta(days=1))
    lab.edit(lambda content: content["roots"][0].update(certificate=pki.to_pem(other)), seal=True)
    with pytest.raises(BcmError, match=r"regtest.pki.json is damaged, its certificates do not fit together"):
        lab.authority.ensure_intermediate()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "it holds no JSON"),
        ("[]", "it holds no mapping"),
        ("[" * 100000, "it holds no JSON"),
        (f'{{"format": {"9" * 5000}}}', "it holds no JSON"),
        ('{"format": 1}', "changed by something other than bcm"),
        ("{}", "of format None"),
    ],
)
def test_a_damaged_file(lab: Lab, content: str, fault: str) -> None:
    lab.bootstrap()
    lab.authority.files.public.write_text(content, encoding="utf-8")
    with pytest.raises(BcmError, match=f"regtest.pki.json (is|was) .*{fault}"):
        lab.authority.ensure_intermediate()


#: what a value may be replaced by
_ODD: list[Any] = [None, True, -1, 0, 2**70, 1.5, "", "x", "\n", "é", [], {}, [1], {"a": 1}, "2026-01-01T00:00:00",
                   "0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00", *map(pki.to_pem, foreign()),
                   "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]  # fmt: skip


def _twisted() -> dict[str, Callable[[dict[str, Any]], object]]:
    """What fits together, but is nothing that an authority writes."""

    def of_serial(content: dict[str, Any], **changes: Any) -> None:
        next(iter(content["serials"].values())).update(changes)

    return {
        "time without a zone": lambda content: content.update(written="2026-01-01T00:00:00"),
        "end without a zone": lambda content: of_serial(content, end="2026-01-01T00:00:00"),
        "revoked without a zone": lambda content: of_serial(content, revoked="2026-01-01T00:00:00"),
        "revoked in no time": lambda content: of_serial(content, revoked=""),
        "root for an intermediate": lambda content: content["intermediates"].append(
            {**content["roots"][0], "root": content["roots"][0]["index"]}
        ),
        "unknown kind of key": lambda content: content["roots"][0].update(
            certificate=_of_unknown_kind(content["roots"][0]["certificate"])
        ),
    }


def _of_unknown_kind(text: str) -> str:
    """A certificate whose key is of a kind that nobody knows."""
    der = ssl.PEM_cert_to_DER_cert(text)
    return ssl.DER_cert_to_PEM_cert(der.replace(bytes.fromhex("2a8648ce3d0201"), bytes.fromhex("2a8648ce3d0269")))


@pytest.mark.parametrize("twist", _twisted())
def test_invalid_files_are_refused(lab: Lab, twist: str) -> None:
    _everything(lab)
    lab.edit(_twisted()[twist], seal=True)
    with pytest.raises(BcmError, match=r"regtest.pki.json is damaged, its certificates do not fit together"):
        lab.report()


def _mutated(content: Any, random: Random) -> Any:
    """With one value less, or another one in its place, somewhere."""
    content = copy.deepcopy(content)
    places = [(content, key) for key in _keys(content)]
    for holder, key in places:
        places += [(holder[key], inner) for inner in _keys(holder[key])]
    holder, key = random.choice(places)
    if random.random() < 0.2:
        del holder[key]
    elif random.random() < 0.3 and isinstance(holder[key], str) and holder[key]:
        at = random.randrange(len(holder[key]))
        holder[key] = holder[key][:at] + random.choice("Aa0=\n-é") + holder[key][at + 1 :]
    else:
        holder[key] = random.choice(_ODD)
    return content


def _keys(content: Any) -> Sequence[Any]:
    return list(content) if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()


def test_any_contents_of_the_files_are_read_or_refused(lab: Lab) -> None:
    """Even of somebody who has the key of the seal."""
    _everything(lab)
    _of_electrs(lab, generation=2, allow_new=True)
    store, random = lab.authority.files, Random(1)
    texts = {path: path.read_text() for path in (store.public, store.private)}
    content = json.loads(texts[store.public])
    del content["seal"]
    refused = 0
    for number in range(200):
        for path, text in texts.items():
            path.write_text(text)
        if number % 4:
            store.public.write_text(json.dumps(_with_seal(_mutated(content, random), store._private())))
        else:
            store.private.write_text(json.dumps(_mutated(json.loads(texts[store.private]), random)))
        try:
            lab.report()
            lab.authority.files.keys()
        except BcmError:
            refused += 1
    assert refused > 50


def test_full_disk_leaves_former_files_unchanged(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.bootstrap()
    lab.issue("electrs")
    before = lab.files()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for number in range(4):  # private, public and private file, the first one's name
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
    assert "PRIVATE" not in lab.authority.files.public.read_text()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"seal": "x"}', '{"seal": 1, "keys": {}}', '{"keys": {"a": 1}}',
                                     '{"seal": "", "count": true}', '{"more": 1}', "[" * 100000])  # fmt: skip
def test_damaged_private_file(lab: Lab, content: str) -> None:
    lab.bootstrap()
    lab.authority.files.private.write_text(content, encoding="ascii")
    for work in (lambda: lab.authority.ensure_root(None, allow_new=False), lambda: lab.authority.ensure_lists({})):
        with pytest.raises(BcmError, match=r"regtest.keys.json is damaged"):
            work()


def test_drafts_of_a_killed_run_are_removed(lab: Lab) -> None:
    lab.bootstrap()
    before = {path.name for path in lab.folder.iterdir()}
    for name in (".regtest.keys.json.a1b2c3d4", ".regtest.pki.json.a1b2c3d4"):
        (lab.folder / name).write_text("{", encoding="ascii")
    lab.issue("electrs")
    assert {path.name for path in lab.folder.iterdir()} == before


def test_a_lock_that_is_never_released_raises(lab: Lab) -> None:
    lab.bootstrap()
    fault = "^Another run has been at work on .*:"
    with hold_lock(lab.folder / ".regtest.pki.lock"), pytest.raises(BcmError, match=fault):
        lab.issue("electrs")


def test_runs_at_once_agree(lab: Lab) -> None:
    lab.bootstrap()
    patient = replace(lab, authority=replace(lab.authority, files=AuthorityFiles(lab.folder, "regtest", patience=30)))
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(patient.issue("a", "b").changed)) for _n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 5 + [True]
