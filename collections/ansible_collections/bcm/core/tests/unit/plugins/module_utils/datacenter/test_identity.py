# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter.identity import IDENTITY_MARK, KEPT_MARK, Identity

OWN, OTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
FILES = {
    "secrets": "regtest.json",
    "certificates": "regtest.pki.json",
    "keys": "regtest.keys.json",
    "onions": "regtest.onions.json",
}


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity(tmp_path / "secrets", "regtest", "Data center local (regtest)")


@pytest.fixture
def kept(identity: Identity) -> Identity:
    """With all files that there may be."""
    identity.keep(OWN)
    for name in FILES.values():
        (identity.path.parent / name).touch()
    return identity


def files(identity: Identity) -> set[str]:
    return {path.name for path in identity.path.parent.glob("*")}


def test_a_new_one_is_random_and_written_only_when_it_is_kept(identity: Identity) -> None:
    first, second = (identity.known({}, None, "box") for _number in range(2))
    assert first != second
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert not identity.path.parent.exists()
    identity.keep(first)
    assert identity.known({}, None, "box") == first
    assert identity.known({IDENTITY_MARK: first}, None, "box") == first
    assert stat.S_IMODE(identity.path.stat().st_mode) == 0o600


def test_a_data_center_that_is_not_known_here_is_refused(identity: Identity) -> None:
    with pytest.raises(BcmError) as caught:
        identity.known({IDENTITY_MARK: OTHER}, None, "box")
    assert str(caught.value) == (
        "Data center local (regtest) exists at box with other secrets than those here: its identity there is fedcba98, "
        f"and {identity.path} has none. Copy the folder {identity.path.parent} from the machine that has it, or "
        "restore it from a backup; or give the data center another name. To give up for ever its onion addresses, its "
        "root and its passwords, add -e abandoned_identity=fedcba98. Nothing was changed"
    )
    assert not identity.path.parent.exists()


def test_the_identity_of_another_data_center_is_refused(kept: Identity) -> None:
    with pytest.raises(BcmError, match=f"{kept.path} has that of another one, 01234567"):
        kept.known({IDENTITY_MARK: OTHER}, None, "box")


@pytest.mark.parametrize("name", FILES)
def test_a_single_file_that_is_gone_is_noticed(kept: Identity, name: str) -> None:
    marks = {IDENTITY_MARK: OWN, KEPT_MARK: ",".join(FILES)}
    assert kept.known(marks, None, "box") == OWN
    path = kept.path.parent / FILES[name]
    path.unlink()
    with pytest.raises(BcmError, match=rf"{re.escape(str(path))} is gone\. Copy the folder"):
        kept.known(marks, None, "box")
    rest = ",".join(other for other in FILES if other != name)
    assert kept.known({**marks, KEPT_MARK: rest}, None, "box") == OWN


def test_all_files_that_are_gone_are_named(kept: Identity) -> None:
    for name in ("keys", "onions"):
        (kept.path.parent / FILES[name]).unlink()
    with pytest.raises(BcmError, match=r"regtest.keys.json, \S+regtest.onions.json are gone\."):
        kept.known({IDENTITY_MARK: OWN, KEPT_MARK: ",".join(FILES)}, None, "box")


def test_an_abandoned_identity_is_replaced_once(identity: Identity) -> None:
    marks = {IDENTITY_MARK: OTHER, KEPT_MARK: "keys"}
    for word in (OTHER[:8], OTHER):
        assert identity.known(marks, word, "box") != OTHER
    new = identity.known(marks, OTHER[:8], "box")
    identity.keep(new)
    assert identity.known(marks, OTHER[:8], "box") == new, "a run that was interrupted goes on"


def test_abandoning_the_own_identity_creates_another(kept: Identity) -> None:
    assert kept.known({IDENTITY_MARK: OWN}, OWN[:8], "box") != OWN


@pytest.mark.parametrize("word", ["fedcba9", "01234567", "", "yes"])
def test_another_one_is_not_given_up(identity: Identity, word: str) -> None:
    with pytest.raises(BcmError, match="Nothing was changed|nothing was changed"):
        identity.known({IDENTITY_MARK: OTHER}, word, "box")


@pytest.mark.parametrize("content", [b"", b"0123", b"\xff\xfe", OWN.upper().encode(), OWN.encode() * 2])
def test_a_damaged_file_is_not_replaced(kept: Identity, content: bytes) -> None:
    kept.path.write_bytes(content)
    with pytest.raises(BcmError, match=f"{kept.path} .*: put a copy of it back"):
        kept.known({}, None, "box")
    assert kept.path.read_bytes() == content


def test_an_unreadable_identity_is_named(identity: Identity) -> None:
    identity.path.mkdir(parents=True)
    with pytest.raises(BcmError, match=f"{identity.path} cannot be read"):
        identity.read()
