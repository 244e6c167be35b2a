# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._datacenter.identity import (
    AUTHORITY_MARK,
    IDENTITY_MARK,
    KEPT_MARK,
    Identity,
    is_saved,
    record_authority,
)

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


def test_new_identity_is_random_and_written_only_when_it_is_kept(identity: Identity) -> None:
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
def test_identity_other_than_the_named_one_is_not_abandoned(identity: Identity, word: str) -> None:
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


# -- what was issued ---------------------------------------------------------------------------------------------------


class FakeProject:
    """An endpoint with one project, or none."""

    def __init__(self, config: dict[str, str] | None) -> None:
        self.config = config
        self.endpoint = SimpleNamespace(name="box")

    def find(self, path: str, *, project: Any) -> dict[str, Any] | None:
        assert (path, project) == ("/1.0/projects/bcm-local-regtest", None)
        return None if self.config is None else {"config": dict(self.config)}

    def read(self, path: str, *, project: Any) -> tuple[dict[str, Any], str]:
        assert (path, project) == ("/1.0/projects/bcm-local-regtest", None)
        return {"description": "a data center", "config": dict(self.config or {})}, "etag"

    def call(self, method: str, path: str, body: dict[str, Any], *, what: str, project: Any, etag: str) -> None:
        # as LXD 5.0, which refuses to PATCH the config of a project that is not empty
        assert (method, path, project, etag) == ("PUT", "/1.0/projects/bcm-local-regtest", None, "etag")
        assert body["description"] == "a data center"
        self.config = body["config"]


@pytest.fixture
def authority(identity: Identity) -> AuthorityFiles:
    """Its files, as a first run writes them."""
    identity.keep(OWN)
    files = AuthorityFiles(identity.path.parent, "regtest")
    issue(files)
    return files


def issue(files: AuthorityFiles, *generations: int) -> None:
    """Write the next public file, with roots of some generations."""
    roots = [{"index": index} for index in generations or (1,)]
    files.write({"roots": roots}, {}, max(generations, default=1))


def record(identity: Identity, project: FakeProject, *, check: bool = False) -> bool:
    return record_authority(project, "local", "regtest", identity.path.parent, check=check)  # type: ignore[arg-type]


def test_the_endpoint_remembers_what_was_issued_last(identity: Identity, authority: AuthorityFiles) -> None:
    project = FakeProject({IDENTITY_MARK: OWN})
    assert record(identity, project, check=True)
    assert AUTHORITY_MARK not in project.config  # type: ignore[operator]
    assert record(identity, project)
    assert project.config == {IDENTITY_MARK: OWN, AUTHORITY_MARK: "1.1"}
    assert not record(identity, project)
    issue(authority, 1, 2)
    assert record(identity, project)
    assert project.config[AUTHORITY_MARK] == "2.2"


def test_identity_is_saved_once_it_is_kept_and_the_endpoint_remembers_what_was_issued(
    identity: Identity, authority: AuthorityFiles
) -> None:
    def saved(project: FakeProject, number: str = OWN) -> bool:
        place = "local", "regtest", identity.path.parent
        return is_saved(project, *place, identity=number)  # type: ignore[arg-type]

    project = FakeProject({IDENTITY_MARK: OWN})
    assert not saved(FakeProject(None))
    assert not saved(project)
    record(identity, project)
    assert saved(project)
    assert not saved(project, OTHER)
    issue(authority)  # as `bcm ca revoke` does between two runs
    assert not saved(project)
    identity.path.unlink()
    assert not saved(project)


def test_there_is_nothing_to_remember_yet(identity: Identity, authority: AuthorityFiles) -> None:
    assert not record(identity, FakeProject(None))
    for path in (authority.public, authority.private):
        path.unlink()
    assert not record(identity, FakeProject({}))


def test_older_copies_of_both_files_are_refused(identity: Identity, authority: AuthorityFiles) -> None:
    backup = [(path, path.read_text()) for path in (authority.public, authority.private)]
    issue(authority)
    project = FakeProject({IDENTITY_MARK: OWN})
    record(identity, project)
    assert identity.known(project.config or {}, None, "box") == OWN
    issue(authority)  # as `bcm ca revoke` does between two runs
    assert identity.known(project.config or {}, None, "box") == OWN
    for path, text in backup:
        path.write_text(text)
    with pytest.raises(BcmError) as caught:
        identity.known(project.config or {}, None, "box")
    assert caught.value.code == "data_at_risk"
    assert str(caught.value) == (
        f"{authority.public} is older than what Data center local (regtest) at box was given last (generation 1, "
        "written 1 times, there 2), so what was revoked since would be good again: put the newest copies of it and of "
        "regtest.keys.json back. If there are none, type `bcm ca rotate` until generation 2 begins, and revoke again "
        "what is to be revoked. Nothing was changed"
    )
    # a new generation, whose first files are numbered from the beginning, goes on
    issue(authority, 1, 2)
    assert identity.known(project.config or {}, None, "box") == OWN
    record(identity, project)
    assert (project.config or {})[AUTHORITY_MARK] == "2.2"


def test_a_generation_that_the_endpoint_has_seen_is_not_begun_again(
    identity: Identity, authority: AuthorityFiles
) -> None:
    with pytest.raises(BcmError, match="until generation 4 begins"):
        identity.known({IDENTITY_MARK: OWN, AUTHORITY_MARK: "3.1"}, None, "box")
    # what is given up is not compared
    identity.known({IDENTITY_MARK: OWN, AUTHORITY_MARK: "3.1"}, OWN[:8], "box")
