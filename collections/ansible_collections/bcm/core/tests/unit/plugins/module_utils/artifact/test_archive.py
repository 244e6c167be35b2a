# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._artifact import archive
from ansible_collections.bcm.core.plugins.module_utils._artifact.archive import ArchiveError, Member

#: name, kind, mode, content or link
Item = tuple[str, bytes, int, bytes]
FILE, FOLDER, LINK, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
RELEASE: list[Item] = [
    ("x-1/", FOLDER, 0o775, b""),
    ("x-1/bin/", FOLDER, 0o755, b""),
    ("x-1/bin/xd", FILE, 0o775, b"daemon"),
    ("x-1/bin/x-cli", FILE, 0o700, b"client"),
    ("x-1/bin/sub/deep", FILE, 0o755, b"deep"),
    ("x-1/bin/x", LINK, 0o777, b"../bin/xd"),
    ("x-1/README", FILE, 0o600, b"read me"),
]


def tar(path: Path, items: Sequence[Item], mode: str = "gz") -> Path:
    with tarfile.open(path, f"w:{mode}") as file:  # type: ignore[call-overload]
        for name, kind, bits, content in items:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, bits
            if kind in {LINK, HARD}:
                info.linkname = content.decode()
            elif kind == FILE:
                info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def zip_(path: Path, items: Sequence[Item]) -> Path:
    types = {FILE: stat.S_IFREG, FOLDER: stat.S_IFDIR, LINK: stat.S_IFLNK, tarfile.CHRTYPE: stat.S_IFCHR}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, kind, bits, content in items:
            info = zipfile.ZipInfo(name)
            info.external_attr = (types[kind] | bits) << 16
            file.writestr(info, content)
    return path


Make = Callable[[Path, Sequence[Item]], Path]
KINDS: dict[str, Make] = {
    "gz": tar,
    "xz": lambda path, items: tar(path, items, "xz"),
    "bz2": lambda path, items: tar(path, items, "bz2"),
    "tar": lambda path, items: tar(path, items, ""),
    "zip": zip_,
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
tar_and_zip = pytest.mark.parametrize("make", [tar, zip_], ids=["tar", "zip"])


def contents(path: Path, wanted: list[str]) -> dict[str, tuple[int, bytes]]:
    return {name: (mode, content) for name, mode, content in archive.read(path, wanted)}


@every_kind
def test_members_are_read(tmp_path: Path, make: Make) -> None:
    members = archive.check(make(tmp_path / "a", RELEASE))
    assert members == [
        Member("x-1", "folder", 0o755, 0),
        Member("x-1/bin", "folder", 0o755, 0),
        Member("x-1/bin/xd", "file", 0o755, 6),
        Member("x-1/bin/x-cli", "file", 0o755, 6),
        Member("x-1/bin/sub/deep", "file", 0o755, 4),
        Member("x-1/bin/x", "link", 0o755, 9 if make is zip_ else 0, "x-1/bin/xd"),
        Member("x-1/README", "file", 0o644, 7),
    ]


@every_kind
def test_reading_below_the_top_folder(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "a", RELEASE)
    assert contents(path, ["README", "bin/x?"]) == {"README": (0o644, b"read me"), "bin/xd": (0o755, b"daemon")}
    assert list(contents(path, ["bin/*"])) == ["bin/xd", "bin/x-cli", "bin/x"]
    assert contents(path, ["bin/x"]) == {"bin/x": (0o755, b"daemon")}


@tar_and_zip
def test_reading_without_a_top_folder(tmp_path: Path, make: Make) -> None:
    path = make(tmp_path / "a", [("./bin/x", FILE, 0o755, b"x"), ("LICENSE", FILE, 0o644, b"")])
    assert contents(path, ["bin/x"]) == {"bin/x": (0o755, b"x")}
    alone = make(tmp_path / "b", [("./", FOLDER, 0o755, b""), ("./x", FILE, 0o755, b"x")])
    assert contents(alone, ["x"]) == {"x": (0o755, b"x")}


@tar_and_zip
@pytest.mark.parametrize("wanted", ["bin/y", "y*", "bin", "x-1/bin/xd"])
def test_missing_members_are_named(tmp_path: Path, make: Make, wanted: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        contents(make(tmp_path / "a", RELEASE), ["bin/xd", wanted])
    assert str(caught.value).startswith(f"a holds no {wanted}: ")


def test_a_hard_link_is_the_file(tmp_path: Path) -> None:
    path = tar(tmp_path / "a", [*RELEASE, ("x-1/bin/y", HARD, 0o755, b"x-1/bin/x")])
    assert contents(path, ["bin/y"]) == {"bin/y": (0o755, b"daemon")}


@pytest.mark.parametrize("target", ["none", "y", "../bin"])
def test_a_link_to_no_file_is_no_file(tmp_path: Path, target: str) -> None:
    path = tar(tmp_path / "a", [*RELEASE, ("x-1/bin/y", LINK, 0o777, target.encode())])
    assert archive.check(path)
    with pytest.raises(ArchiveError, match="a: 'x-1/bin/y' is a link that leads to no file in it"):
        next(archive.read(path, ["bin/xd", "bin/y"]))


@tar_and_zip
@pytest.mark.parametrize(
    ("name", "mode", "why"),
    [
        ("/etc/passwd", 0o644, "leads out of the folder"),
        ("../x", 0o644, "leads out of the folder"),
        ("x-1/../../x", 0o644, "leads out of the folder"),
        ("x-1/bin/..", 0o644, "leads out of the folder"),
        ("x-1/su", 0o4755, "has a set-user-ID"),
        ("x-1/sg", 0o2755, "has a set-user-ID"),
        ("x-1/sticky", 0o1755, "has a set-user-ID"),
        ("x-1/bin/xd", 0o644, "is there twice"),
        ("./x-1//bin/./xd", 0o644, "is there twice"),
        ("./.", 0o644, "has no name"),
        ("x-1/bin/x/y", 0o644, "is below a link or file"),
        ("x-1/README/y", 0o644, "is below a link or file"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_forbidden_members_are_refused(tmp_path: Path, make: Make, name: str, mode: int, why: str) -> None:
    path = make(tmp_path / "a", [*RELEASE, (name, FILE, mode, b"x")])
    for work in (lambda: archive.check(path, "x-1.tar.gz"), lambda: next(archive.read(path, ["README"], "x-1.tar.gz"))):
        with pytest.raises(ArchiveError) as caught:
            work()
        assert str(caught.value).startswith(f"x-1.tar.gz: {name!r} {why}")


@tar_and_zip
def test_a_folder_may_have_no_set_id_bit_either(tmp_path: Path, make: Make) -> None:
    with pytest.raises(ArchiveError, match="'x-1/?' has a set-user-ID"):
        archive.check(make(tmp_path / "a", [("x-1/", FOLDER, 0o2755, b"")]))


@tar_and_zip
@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../x", "../../../x", "./../../x", "../bin/../../y", "x/../..", ""]
)
def test_a_link_may_not_leave_the_folder(tmp_path: Path, make: Make, target: str) -> None:
    path = make(tmp_path / "a", [*RELEASE, ("x-1/bin/y", LINK, 0o777, target.encode())])
    with pytest.raises(ArchiveError, match="a: 'x-1/bin/y' is a link out of the folder"):
        archive.check(path)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "x-1/../../x", "y", ""])
def test_a_hard_link_may_not_leave_the_folder(tmp_path: Path, target: str) -> None:
    path = tar(tmp_path / "a", [*RELEASE, ("x-1/bin/y", HARD, 0o755, target.encode())])
    with pytest.raises(ArchiveError, match="a: 'x-1/bin/y' is a link out of the folder"):
        archive.check(path)


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z"])
def test_a_device_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(ArchiveError, match="'x-1/y' is a device, or another special file"):
        archive.check(tar(tmp_path / "a", [*RELEASE, ("x-1/y", kind, 0o644, b"")]))


def test_a_device_in_a_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="'x-1/y' is a device, or another special file"):
        archive.check(zip_(tmp_path / "a", [*RELEASE, ("x-1/y", tarfile.CHRTYPE, 0o644, b"")]))


@tar_and_zip
def test_too_many_members_are_refused(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MEMBERS", len(RELEASE))
    assert archive.check(make(tmp_path / "a", RELEASE))
    with pytest.raises(ArchiveError, match="'x-1/y' is one of more than 7 members"):
        archive.check(make(tmp_path / "a", [*RELEASE, ("x-1/y", FILE, 0o644, b"")]))


def test_too_much_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.size = (4 << 30) + 1
    (tmp_path / "a").write_bytes(info.tobuf())
    with pytest.raises(ArchiveError, match="a: 'x' makes it more than 4 GiB"):
        archive.check(tmp_path / "a")


@every_kind
def test_a_truncated_archive_is_damaged(tmp_path: Path, make: Make) -> None:
    data = make(tmp_path / "whole", RELEASE).read_bytes()
    # Behind the last member, a plain tar has nothing but zeros.
    end = 512 * 9 if make is KINDS["tar"] else len(data) - 1
    for length in (0, 1, 100, end // 2, end):
        (tmp_path / "a").write_bytes(data[:length])
        with pytest.raises(ArchiveError, match="^a is damaged, or no archive: .*; fetch it again$"):
            archive.check(tmp_path / "a")


@every_kind
def test_a_flipped_bit_is_damage(tmp_path: Path, make: Make) -> None:
    data = bytearray(make(tmp_path / "whole", RELEASE).read_bytes())
    # What is compressed has a checksum; of a plain tar only the headers have one.
    places = {KINDS["tar"]: 512 * 4 + 10, zip_: data.index(b"x-1/README") + 12 if make is zip_ else 0}
    data[places.get(make, len(data) // 2)] ^= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ArchiveError, match="^a is damaged"):
        archive.check(tmp_path / "a")


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="No such file"):
        archive.check(tmp_path / "a")


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_(tmp_path / "a", [("x", FILE, 0o644, b"x")]).read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ArchiveError, match="a is damaged, or no archive: .*encrypted"):
        archive.check(tmp_path / "a")
