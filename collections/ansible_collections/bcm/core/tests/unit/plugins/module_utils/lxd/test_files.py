# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of an instance; the instance is a directory of this machine."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.errors import LxdError
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession, FilesResult, apply_files


class _File(io.FileIO):
    """A file of paramiko's, which can change its own mode."""

    def chmod(self, mode: int) -> None:
        os.fchmod(self.fileno(), mode)


class Sftp:
    """What paramiko's client does over the wire, with the functions of this machine; owners are left alone."""

    lstat = staticmethod(os.lstat)
    chmod = staticmethod(os.chmod)
    remove = staticmethod(os.remove)
    mkdir = staticmethod(os.mkdir)
    rmdir = staticmethod(os.rmdir)
    readlink = staticmethod(os.readlink)
    symlink = staticmethod(os.symlink)
    listdir = staticmethod(os.listdir)
    posix_rename = staticmethod(os.rename)

    def chown(self, path: str, uid: int, gid: int) -> None:
        pass

    def open(self, path: str, mode: str) -> _File:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL if "x" in mode else os.O_RDONLY
        return _File(os.open(path, flags), "wb" if "x" in mode else "rb")


class Here:
    """Applies items whose paths begin at a directory, twice: the second time nothing may change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.session = FileSession.__new__(FileSession)
        self.session.instance = "one"
        self.session.sftp = Sftp()  # type: ignore[assignment]
        self.own = {"owner": str(os.getuid()), "group": str(os.getgid())}

    def apply(self, *items: dict[str, Any], check: bool = False) -> FilesResult:
        wanted = [{**self.own, **item, "path": str(self.root / item["path"])} for item in items]
        result = apply_files(self.session, wanted, check=check)
        if not check:
            again = apply_files(self.session, wanted)
            assert again.changed == []
            assert again.diff == []
            assert again.digest == result.digest
        return result


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_file(here: Here) -> None:
    result = here.apply({"path": "a/b/file", "content": b"text\n", "mode": 0o640})
    file = here.root / "a/b/file"
    assert file.read_bytes() == b"text\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o755
    assert result.diff[0]["before"] == ""
    assert result.diff[0]["after"].endswith("text\n")
    assert os.listdir(file.parent) == ["file"]


def test_mode_is_left_alone_unless_it_is_given(here: Here) -> None:
    file = here.root / "file"
    file.write_text("one")
    file.chmod(0o604)
    here.apply({"path": "file", "content": b"two"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o604
    here.apply({"path": "file", "content": b"two", "mode": 0o600})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_check_changes_nothing(here: Here) -> None:
    result = here.apply({"path": "a/file", "content": b"text"}, {"path": "b", "state": "directory"}, check=True)
    assert len(result.changed) == 2
    assert os.listdir(here.root) == []


def test_sensitive_content_is_not_shown(here: Here) -> None:
    (here.root / "file").write_text("old secret")
    result = here.apply({"path": "file", "content": b"new secret", "sensitive": True})
    assert result.changed
    assert "secret" not in str(result)


def test_binary_content_is_named_by_its_hash(here: Here) -> None:
    assert "(binary, 2 bytes, SHA-256 " in here.apply({"path": "file", "content": b"\xff\x00"}).diff[0]["after"]


def test_links(here: Here) -> None:
    here.apply({"path": "x/link", "state": "link", "target": "one"})
    here.apply({"path": "x/link", "state": "link", "target": "two"})
    assert os.readlink(here.root / "x/link") == "two"
    here.apply({"path": "x/link", "content": b"no link any more"})
    assert not (here.root / "x/link").is_symlink()


def test_directory(here: Here) -> None:
    here.apply({"path": "d", "state": "directory", "mode": 0o700})
    assert stat.S_IMODE((here.root / "d").stat().st_mode) == 0o700
    with pytest.raises(LxdError, match="is a directory, a file is wanted: remove it first"):
        here.apply({"path": "d", "content": b""}, check=True)


def test_absent(here: Here) -> None:
    (here.root / "d/e").mkdir(parents=True)
    (here.root / "d/e/file").touch()
    assert here.apply({"path": "d", "state": "absent"}).diff[0]["after"] == ""
    assert os.listdir(here.root) == []


def test_error_names_the_path(here: Here) -> None:
    (here.root / "file").touch()
    with pytest.raises(LxdError, match="Failed to write .*/file/below in instance one: Not a directory"):
        here.apply({"path": "file/below", "content": b""})


def test_digest_is_of_what_is_wanted(here: Here) -> None:
    digests = {
        here.apply(item, check=True).digest
        for item in (
            {"path": "a", "content": b"1"},
            {"path": "a", "content": b"2"},
            {"path": "a", "content": b"1", "mode": 0o600},
            {"path": "b", "content": b"1"},
        )
    }
    assert len(digests) == 4
