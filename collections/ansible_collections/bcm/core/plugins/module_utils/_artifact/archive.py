# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Release archives, tar and zip: all members are checked before any of them is used."""

from __future__ import annotations

import contextlib
import fnmatch
import lzma
import posixpath
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from .._base.errors import BcmError

_MEMBERS = 100_000
_BYTES = 4 << 30
_LINKS = 40
_PATH = 4096  # characters, as the kernel has it
_STEPS = 128  # folders below each other
_BLOCK = 1 << 20
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    IndexError,  # of zipfile, for a member without a name
    OverflowError,
    struct.error,
    RuntimeError,  # of zipfile, if a password or an unknown method is needed
)


class ArchiveError(BcmError):
    """An archive is damaged, or has members that no release should have."""

    code = "damaged"


@dataclass(frozen=True)
class Member:
    """One member; ``name`` and ``target``, where a link leads, are paths in the archive."""

    name: str
    kind: str  # "file", "folder" or "link"
    mode: int  # 0o755 or 0o644
    size: int
    target: str = ""


_Open = Callable[[], IO[bytes]]
_Members = dict[str, tuple[Member, _Open]]


@dataclass(frozen=True)
class Raw:
    """A member as the archive has it."""

    name: str
    kind: str
    mode: int
    size: int
    open: _Open
    link: str = ""  # of a symbolic link: seen from its folder; of a hard link: from the top

    @property
    def plain_mode(self) -> int:
        return 0o755 if self.mode & 0o111 or self.kind == "folder" else 0o644


def check(path: Path, name: str | None = None) -> list[Member]:
    """All members. Raises ArchiveError, which calls the archive ``name``, if one does not belong in a release."""
    with _opened(path, name or path.name) as members:
        return [member for member, _unused in members.values()]


def read(path: Path, wanted: Sequence[str], name: str | None = None) -> Iterator[tuple[str, int, bytes]]:
    """Return the wanted files as (name, mode, content); names and patterns are relative to the top folder, if any.

    A link is given as the file it leads to. Raises ArchiveError, before anything is given.
    """
    name = name or path.name
    with _opened(path, name) as members:
        top = _top(members)
        found = {
            key: key.removeprefix(f"{top}/") for key, (member, _unused) in members.items() if member.kind != "folder"
        }
        for pattern in wanted:
            if not any(_matches(below, pattern) for below in found.values()):
                raise ArchiveError(
                    name,
                    f"holds no {pattern}",
                    "correct the stack's list, or use the release it is for",
                    code="not_found",
                )
        chosen = [key for key, below in found.items() if any(_matches(below, pattern) for pattern in wanted)]
        for key, (member, opened) in [(key, _followed(members, key, name)) for key in chosen]:
            with opened() as content:
                yield found[key], member.mode, content.read()


def layer(path: Path, name: str) -> Iterator[tuple[str, Raw]]:
    """Members of a layer of an image, which is no whole release: paths may come again, and links lead anywhere.

    Each as (path, member), to be read before the next one. Programs of a distribution that it may have beside its own
    have set-id bits, which `Raw.plain_mode` leaves out. Raises ArchiveError for what belongs in no image.
    """
    with _archive_errors(name), tarfile.open(path) as tar:
        yield from _sane(_tar_members(tar), name, 0)


@contextlib.contextmanager
def _opened(path: Path, name: str) -> Iterator[_Members]:
    with contextlib.ExitStack() as stack:
        with _archive_errors(name):
            with open(path, "rb") as file:
                is_zip = file.read(4) == b"PK\3\4"
            if is_zip:
                members = _checked(_zip_members(stack.enter_context(zipfile.ZipFile(path))), name)
            else:
                members = _checked(_tar_members(stack.enter_context(tarfile.open(path))), name)
        yield members


@contextlib.contextmanager
def _archive_errors(name: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        why = next(iter(str(error).splitlines()), type(error).__name__).rstrip(":")
        raise ArchiveError(name, f"is damaged, or no archive: {why};", "fetch it again") from error


def _tar_members(tar: tarfile.TarFile) -> Iterator[Raw]:
    kinds = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link", tarfile.LNKTYPE: "hard link"}
    for info in tar:
        kind = "file" if info.isreg() else kinds.get(info.type, "special")
        opened = cast(_Open, partial(tar.extractfile, info))  # None only of what is not a file
        yield Raw(info.name, kind, info.mode, info.size, opened, info.linkname)
    # tarfile takes a damaged header, or none, for the end, and leaves the checksum of what is compressed unread.
    rest = cast(IO[bytes], tar.fileobj)
    rest.seek(tar.offset)
    end = rest.read(tarfile.BLOCKSIZE)
    while end and not end.strip(b"\0"):
        if not (end := rest.read(_BLOCK)):
            return
    raise tarfile.ReadError("it does not end as it should")


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Raw]:
    kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
    for info in archive.infolist():
        mode = info.external_attr >> 16
        kind = "folder" if info.is_dir() else kinds.get(stat.S_IFMT(mode), "special")
        link = archive.open(info).read(_PATH).decode() if kind == "link" else ""
        yield Raw(info.filename, kind, stat.S_IMODE(mode), info.file_size, partial(archive.open, info), link)
    if broken := archive.testzip():
        raise zipfile.BadZipFile(f"{broken} has another checksum")


def _sane(raws: Iterator[Raw], archive: str, bits: int) -> Iterator[tuple[str, Raw]]:
    """Members with their paths, without "./"; one with a bit of ``bits`` in its mode is refused."""
    size = 0
    for number, raw in enumerate(raws):
        size += raw.size
        if number == _MEMBERS:
            raise refusal(archive, raw.name, f"is one of more than {_MEMBERS} members")
        if size > _BYTES:
            raise refusal(archive, raw.name, f"makes it more than {_BYTES >> 30} GiB")
        if raw.kind == "special":
            raise refusal(archive, raw.name, "is a device, or another special file")
        if raw.mode & bits:
            raise refusal(archive, raw.name, "has a set-user-ID, set-group-ID or sticky bit")
        steps = raw.name.split("/")
        if max(len(raw.name), len(raw.link)) > _PATH or max(len(steps), raw.link.count("/")) > _STEPS:
            raise refusal(archive, f"{raw.name[:80]}…", "is too long, or in too many folders")
        if raw.name.startswith("/") or ".." in steps:
            raise refusal(archive, raw.name, "leads out of the folder")
        name = "/".join(step for step in steps if step not in {"", "."})
        if name:
            yield name, raw
        elif raw.kind != "folder":
            raise refusal(archive, raw.name, "has no name")


def _checked(raws: Iterator[Raw], archive: str) -> _Members:
    members: _Members = {}
    for name, raw in _sane(raws, archive, 0o7000):
        if name in members:
            raise refusal(archive, raw.name, "is there twice")
        kind, target = raw.kind, ""
        if kind in {"link", "hard link"}:
            # A hard link's target is seen from where the archive is unpacked, a symbolic link's from its own folder.
            target = link_target(posixpath.dirname(name) if kind == "link" else "", raw.link)
            kind = "link"
            if not target:
                raise refusal(archive, raw.name, f"is a link out of the folder, to {raw.link!r}")
        members[name] = Member(name, kind, raw.plain_mode, raw.size, target), raw.open
    top = _top(members)
    folders = {""}  # those that are below no link or file
    for name, (member, _unused) in members.items():
        above = posixpath.dirname(name)
        found = []
        while above not in folders:
            if above in members and members[above][0].kind != "folder":
                raise refusal(archive, name, "is below a link or file")
            found.append(above)
            above = posixpath.dirname(above)
        folders.update(found)
        if top and member.target and not f"{member.target}/".startswith(f"{top}/"):
            raise refusal(archive, name, f"is a link out of the folder {top}")
    return members


def refusal(archive: str, member: str, why: str) -> ArchiveError:
    return ArchiveError(
        f"{archive}:", f"{member!r} {why}", "refused, no release should hold such a thing", code="not_verified"
    )


def link_target(folder: str, link: str) -> str:
    """Where a link in a folder leads, as a path in the archive; nothing if out of it.

    ".." counts only at the beginning: behind another link's name it would not lead where it seems to.
    """
    steps = link.split("/")
    while steps and steps[0] == ".." and folder:
        folder = posixpath.dirname(folder)
        del steps[0]
    if not link or link.startswith("/") or ".." in steps:
        return ""
    return posixpath.normpath(posixpath.join(folder, *steps))


def _top(members: _Members) -> str:
    """The one folder that everything is in."""
    tops = {name.partition("/")[0] for name in members}
    loose = any("/" not in name and member.kind != "folder" for name, (member, _unused) in members.items())
    return "" if loose or len(tops) != 1 else tops.pop()


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))


def _followed(members: _Members, name: str, archive: str) -> tuple[Member, _Open]:
    at = name
    for _unused in range(_LINKS):
        if at not in members:
            break
        member, opened = members[at]
        if member.kind == "file":
            return member, opened
        at = member.target
    raise ArchiveError(
        f"{archive}:", f"{name!r} is a link that leads to no file in it", "name the file itself", code="not_found"
    )
