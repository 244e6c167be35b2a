# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of an instance; the instance is a directory of this machine."""

from __future__ import annotations

import io
import os
import socket
import stat
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd import files
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession, FilesResult, apply_files
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError, TooMuchOutput

from .instance import as_instance


class _File(io.FileIO):
    """A file of paramiko's, which can change its own mode."""

    def chmod(self, mode: int) -> None:
        os.fchmod(self.fileno(), mode)


class Sftp:
    """What paramiko's client does over the wire, with the functions of this machine; owners are left alone."""

    lstat = staticmethod(os.lstat)
    stat = staticmethod(os.stat)
    remove = staticmethod(os.remove)
    mkdir = staticmethod(os.mkdir)
    rmdir = staticmethod(os.rmdir)
    readlink = staticmethod(os.readlink)
    symlink = staticmethod(os.symlink)
    listdir = staticmethod(os.listdir)
    posix_rename = staticmethod(os.rename)

    def chmod(self, path: str, mode: int) -> None:
        """As LXD's, which drops what is beyond rwx."""
        os.chmod(path, mode & 0o777)

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


@pytest.mark.parametrize("mode", [0o4755, 0o2750, 0o1777, 0o6711])
@pytest.mark.parametrize("state", ["file", "directory"])
def test_special_bits(here: Here, monkeypatch: pytest.MonkeyPatch, mode: int, state: str) -> None:
    with as_instance(monkeypatch) as here.session._client:  # type: ignore[assignment]
        here.apply({"path": "x", "state": state, "mode": mode})
        assert stat.S_IMODE((here.root / "x").stat().st_mode) == mode
        if state == "file":
            here.apply({"path": "x", "content": b"the mode is kept"})
            assert stat.S_IMODE((here.root / "x").stat().st_mode) == mode


def test_directory_may_be_a_link_to_one(here: Here) -> None:
    (here.root / "real/deep").mkdir(parents=True)
    (here.root / "real/deep/file").touch()
    (here.root / "link").symlink_to("second")
    (here.root / "second").symlink_to(here.root / "real/deep")
    here.apply({"path": "link", "state": "directory", "mode": 0o700})
    assert (here.root / "link").is_symlink()
    assert stat.S_IMODE((here.root / "real/deep").stat().st_mode) == 0o700
    assert (here.root / "real/deep/file").exists()


def test_link_of_another_user_is_not_followed(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    (here.root / "etc").mkdir(mode=0o755)
    (here.root / "link").symlink_to("etc")

    def lstat(path: str) -> os.stat_result:
        fields = list(os.lstat(path))
        fields[stat.ST_UID] = 7 if path.endswith("/link") else fields[stat.ST_UID]
        return os.stat_result(fields)

    monkeypatch.setattr(here.session.sftp, "lstat", lstat)
    with pytest.raises(LxdError, match="is a link that user 7 has made, a directory is wanted: remove it first"):
        here.apply({"path": "link", "state": "directory", "mode": 0o777})
    assert stat.S_IMODE((here.root / "etc").stat().st_mode) == 0o755


@pytest.mark.parametrize("target", ["nowhere", "link"])
def test_link_that_leads_nowhere(here: Here, target: str) -> None:
    (here.root / "link").symlink_to(target)
    with pytest.raises(LxdError, match="link in instance one is a link that leads nowhere: remove it first"):
        here.apply({"path": "link", "state": "directory"})


@pytest.mark.parametrize("state", ["directory", "link"])
def test_a_file_is_not_thrown_away(here: Here, state: str) -> None:
    (here.root / "file").write_text("dear")
    (here.root / "link").symlink_to("file")
    with pytest.raises(LxdError, match=f"file in instance one is a file, a {state} is wanted: remove it first"):
        here.apply({"path": "file", "state": state, "target": "x"})
    with pytest.raises(LxdError, match="file in instance one is a file, a directory is wanted: remove it first"):
        here.apply({"path": "link", "state": "directory"})
    assert (here.root / "file").read_text() == "dear"


def test_special_file_is_not_read(here: Here) -> None:
    os.mkfifo(here.root / "pipe")
    with pytest.raises(LxdError, match="pipe in instance one is not a file"):
        here.session.read(str(here.root / "pipe"))
    here.apply({"path": "pipe", "content": b"now it is"})


def test_size_of_a_read_file_is_bounded(here: Here) -> None:
    with (here.root / "large").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(TooMuchOutput, match="large in instance one is longer than 1048576 bytes"):
        here.session.read(str(here.root / "large"))
    (here.root / "same").write_bytes(b"x")
    assert here.apply({"path": "large", "content": b"small"}).diff[0]["before"].startswith("file")


def test_large_files_are_not_held(here: Here, tmp_path_factory: pytest.TempPathFactory) -> None:
    source = tmp_path_factory.mktemp("controller") / "source"
    with source.open("wb") as file:
        file.truncate(64 * 2**20)
    tracemalloc.start()
    diff = here.apply({"path": "copy", "content": source}).diff[0]
    here.apply({"path": "copy", "content": b"other"})
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()
    assert "(long, 67108864 bytes)" in diff["after"]


def test_absent(here: Here) -> None:
    (here.root / "d/e").mkdir(parents=True)
    (here.root / "d/e/file").touch()
    assert here.apply({"path": "d", "state": "absent"}).diff[0]["after"] == ""
    assert os.listdir(here.root) == []


def test_deep_directory_is_removed(here: Here) -> None:
    path = str(here.root)
    for _level in range(1500):
        path += "/d"
        os.mkdir(path)
    (here.root / "d/link").symlink_to("/etc")
    (here.root / "d/file").touch()
    here.apply({"path": "d", "state": "absent"})
    assert os.listdir(here.root) == []


def test_unknown_user_is_refused_before_anything_is_written(here: Here) -> None:
    here.session._ids = {"/etc/passwd": {"root": 0}, "/etc/group": {"root": 0}}
    with pytest.raises(LxdError, match='Instance one has no user "who"'):
        here.apply({"path": "first", "content": b""}, {"path": "second", "content": b"", "owner": "who"})
    assert not (here.root / "first").exists()


def test_error_names_the_path(here: Here) -> None:
    (here.root / "file").touch()
    with pytest.raises(LxdError, match="Failed to write .*/file/below in instance one: Not a directory"):
        here.apply({"path": "file/below", "content": b""})


def test_digest_covers_path_content_and_mode(here: Here) -> None:
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


def test_exclusive_directory_holds_nothing_else(here: Here) -> None:
    own = here.root / "own"
    (own / "below").mkdir(parents=True)
    for name in ("kept", "stranger", ".kept.left", "below/kept", "below/other"):
        (own / name).write_text("x")
    (own / "rogue").mkdir()
    (own / "rogue/file").write_text("x")
    (own / "link").symlink_to("/etc")
    items: list[dict[str, Any]] = [
        {"path": "own", "state": "directory", "exclusive": True},
        {"path": "own/kept", "content": b"x"},
        {"path": "own/below/kept", "content": b"x"},
    ]
    before = here.apply(*items, check=True)
    assert before.changed == [str(own / name) for name in (".kept.left", "link", "rogue", "stranger")]
    assert (own / "stranger").exists()
    done = here.apply(*items)
    assert (done.changed, done.digest) == (before.changed, before.digest)
    assert sorted(path.name for path in own.iterdir()) == ["below", "kept"]
    assert (own / "below/other").exists()


def test_exclusive_directory_that_is_not_there_yet(here: Here) -> None:
    here.apply({"path": "own", "state": "directory", "exclusive": True}, {"path": "own/kept", "content": b"x"})
    assert [path.name for path in (here.root / "own").iterdir()] == ["kept"]


def test_name_that_sftp_cannot_carry_is_reported(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def listdir(path: str) -> list[str]:
        return [os.fsencode(name).decode() for name in os.listdir(path)]  # as paramiko's

    monkeypatch.setattr(here.session.sftp, "listdir", listdir)
    (here.root / "d").mkdir()
    (here.root / "d" / os.fsdecode(b"\xff")).touch()
    for item in ({"path": "d", "state": "directory", "exclusive": True}, {"path": "d", "state": "absent"}):
        with pytest.raises(LxdError, match="holds a file whose name is not UTF-8"):
            here.apply(item)


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", str(2**32)])
def test_invalid_number_of_a_user_is_refused(here: Here, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    here.session._ids = {}
    monkeypatch.setattr(here.session, "read", lambda _path: f"tor:x:{number}:7::/:\n".encode())
    for name in ("tor", number):
        with pytest.raises(LxdError, match="has no user"):
            here.session.uid(name)


class _Sessions:
    """An LXD whose process for files has ended, so that the first connections to it end at once."""

    timeout, project = 5.0, "default"

    def __init__(self, ended: int) -> None:
        self.ended = ended

    def connect(self) -> socket.socket:
        near, far = socket.socketpair()
        far.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        if self.ended:
            self.ended -= 1
            far.shutdown(socket.SHUT_WR)
        else:
            # SSH_FXP_VERSION 3 (draft-ietf-secsh-filexfer-02, 4)
            far.sendall(bytes.fromhex("00000005 02 00000003"))
        self.far = far
        return near


def test_session_is_opened_again_if_nobody_serves_it() -> None:
    server = _Sessions(ended=2)
    with FileSession(server, "thing"):  # type: ignore[arg-type]
        assert server.ended == 0


def test_session_that_nobody_serves_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_PATIENCE", 0.2)
    with pytest.raises(LxdError, match="^Failed to open the files of instance thing: EOF during negotiation"):
        FileSession(_Sessions(ended=100), "thing")  # type: ignore[arg-type]
