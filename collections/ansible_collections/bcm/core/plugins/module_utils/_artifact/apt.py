# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signed apt repositories: what InRelease promises, and the package it leads to (Debian wiki: RepositoryFormat)."""

from __future__ import annotations

import hashlib
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from .._base.errors import BcmError
from .._base.read import read_moment
from .._base.versions import order, satisfies
from .declaration import DEBIAN, Pin, Release

_HASHES = re.compile(rb"-----BEGIN PGP SIGNED MESSAGE-----\n(?:Hash: [\w, ]+\n)*(?=\n)")
_BEGIN, _END = b"\n-----BEGIN", b"-----END PGP SIGNATURE-----"
_LISTED = re.compile(r"([0-9a-f]{64}) +([0-9]{1,18}) +(\S+)")
_SIZE = re.compile(r"[0-9]{1,18}")
_POOL = re.compile(r"(?!.*\.\.)\w[\w./+~-]*\.deb", re.ASCII)
_VERSION = re.compile(r"(\d{1,9}:)?\d[\w.+~-]{0,120}", re.ASCII)
_LIMIT = 64 << 20
_MEMORY = 256 << 20  # more than xz -9 needs
#: by how much clocks may differ, as apt has it
_AHEAD = timedelta(seconds=10)


@dataclass(frozen=True)
class Promise:
    """What an InRelease says: when it was made, until when it counts, and (digest, size) of the files below it."""

    where: str
    date: datetime
    until: datetime | None
    files: Mapping[str, tuple[str, int]]

    def check_time(self, now: datetime) -> None:
        """Check that it is valid today. Raises BcmError."""
        clock = "or this machine's clock is wrong"
        if self.date > now + _AHEAD:
            raise BcmError(
                self.where,
                f"is dated {self.date:%Y-%m-%d %H:%M} UTC, in the future",
                f"refused, {clock}",
                code="not_verified",
            )
        if self.until and self.until < now:
            raise BcmError(
                self.where,
                f"expired on {self.until:%Y-%m-%d %H:%M} UTC: refused, since what it does not know of may mend faults;",
                f"the mirror has fallen behind, {clock}",
                code="expired",
            )

    def check_order(self, before: str) -> None:
        """Check that it is not older than the one of that date (ISO 8601) that was accepted before. Raises BcmError."""
        if before and self.date < read_moment(before):
            raise BcmError(
                self.where,
                f"is of {self.date:%Y-%m-%d %H:%M} UTC, one of {before} was accepted before: refused, an old copy "
                "hides what is newer;",
                "take it from upstream, or from a mirror that is up to date",
                code="not_verified",
            )

    def index(self, architecture: str) -> str:
        """The list of packages for a kernel's architecture, in the shape that takes least. Raises BcmError."""
        debian = DEBIAN[architecture]
        for suffix in (".xz", ".gz", ""):
            if (name := f"main/binary-{debian}/Packages{suffix}") in self.files:
                return name
        raise BcmError(
            self.where, f"has no packages of main for {debian}", "use another repository or source", code="not_found"
        )

    def unpacked(self, name: str, data: bytes) -> bytes:
        """Return the contents of a listed file, after checking its digest. Raises BcmError."""
        digest, size = self.files[name]
        found = hashlib.sha256(data).hexdigest()
        if len(data) != size or found != digest:
            raise BcmError(
                name,
                f"has the SHA-256 {found}, {self.where} promises {digest}: it was changed, or a new one is just "
                "being published;",
                "run it again",
                code="not_verified",
            )
        try:
            if name.endswith(".xz"):
                data = lzma.LZMADecompressor(memlimit=_MEMORY).decompress(data, _LIMIT)
            elif name.endswith(".gz"):
                data = zlib.decompressobj(wbits=31).decompress(data, _LIMIT)
        except (lzma.LZMAError, zlib.error, EOFError) as error:
            raise BcmError(
                f"{name} of {self.where}", f"is damaged: {error};", "report it to its publisher", code="damaged"
            ) from error
        if len(data) == _LIMIT:
            raise BcmError(
                f"{name} of {self.where}", f"is longer than {_LIMIT >> 20} MiB", "refused", code="not_verified"
            )
        return data


@dataclass(frozen=True)
class Package:
    """A version of a package; ``size`` in bytes."""

    version: str
    pin: Pin
    size: int


def cleartext(message: bytes, where: str) -> tuple[bytes, bytes]:
    """Return the signed text of a clearsigned message (RFC 9580, section 7), and the signature.

    Text outside the message is not signed, so there must be none. Raises BcmError.
    """
    message = message.replace(b"\r\n", b"\n")
    head = _HASHES.match(message)
    # What is signed has "- " before every dash that a line begins with, so it ends at the first line of a block.
    text, begin, rest = message[head.end() if head else 0 :].partition(_BEGIN)
    signature = (begin + rest).strip()
    if head is None or not rest.startswith(b" PGP SIGNATURE-----\n") or not signature.endswith(_END):
        raise BcmError(
            where, "is not a message with a signature: not a repository, or damaged on the way", code="not_verified"
        )
    lines = (line.removeprefix(b"- ").rstrip(b" \t\r") for line in text[1:].split(b"\n"))
    return b"\n".join(lines), signature


def promise(text: bytes, suite: str, where: str) -> Promise:
    """Parse a verified InRelease. Raises BcmError if it is for another suite."""
    fields = next(_stanzas(text), {})
    names = [fields[key] for key in ("Suite", "Codename") if key in fields]
    if suite not in names:
        raise BcmError(
            where,
            f"is of {' and '.join(names) or 'no suite'}, not of {suite}",
            "refused, it is another one",
            code="not_verified",
        )
    if "Date" not in fields:
        raise BcmError(where, "has no date", "refused, since its age is unknown", code="not_verified")
    found = {}
    for line in fields.get("SHA256", "").splitlines():
        if match := _LISTED.fullmatch(line.strip()):
            found[match[3]] = (match[1], int(match[2]))
    until = fields.get("Valid-Until")
    return Promise(where, _date(fields["Date"], where), _date(until, where) if until else None, found)


def newest(packages: bytes, release: Release, where: str) -> Package:
    """Return the newest version of a release's package that is not below its floor. Raises BcmError."""
    repository = release.repository
    if repository is None:
        raise BcmError(release.name, "comes from no repository", code="invalid_value")
    offered = [_package(item, repository.url) for item in _stanzas(packages) if item.get("Package") == release.name]
    found = [item for item in offered if release.version in (None, item.version, upstream(item.version))]
    floor = repository.floor
    found = [item for item in found if not floor or satisfies(upstream(item.version), {"versions": floor})]
    if not found:
        wanted = f"no {release.name} {release.version}" if release.version else f"no {release.name}"
        above = f" that is not below the floor ({', '.join(floor)})" if floor else ""
        there = ", ".join(item.version for item in offered) or "none"
        raise BcmError(
            where, f"has {wanted}{above}, only {there}", f"use another source of {release.stack}", code="not_found"
        )
    return max(found, key=lambda item: order(item.version))


def upstream(version: str) -> str:
    """A Debian version without epoch and revision."""
    return re.sub(r"-[^-]*\Z", "", version.partition(":")[2] or version)


def _package(fields: Mapping[str, str], url: str) -> Package:
    version, path, digest, size = (fields.get(key, "") for key in ("Version", "Filename", "SHA256", "Size"))
    if not _POOL.fullmatch(path) or not re.fullmatch(r"[0-9a-f]{64}", digest) or not _SIZE.fullmatch(size):
        raise BcmError(
            f"{url}:",
            f"{fields['Package']} {version} has no path, size and SHA-256 that make sense",
            "refused",
            code="not_verified",
        )
    if not _VERSION.fullmatch(version):
        raise BcmError(
            f"{url}:", f'{fields["Package"]} has an invalid version "{version}"', "refused", code="not_verified"
        )
    return Package(version, Pin(f"{url}/{path}", "sha256", digest), int(size))


def _stanzas(text: bytes) -> Iterator[dict[str, str]]:
    """Paragraphs of `Field: value` lines; lines that begin with a space go on with the field above."""
    fields: dict[str, list[str]] = {}
    key = ""
    for line in (*text.decode("utf-8", "replace").split("\n"), ""):
        if not line.strip(" \t\r"):
            if fields:
                yield {name: "\n".join(lines) for name, lines in fields.items()}
            fields, key = {}, ""
        elif line[0] in " \t":
            fields.setdefault(key, []).append(line)
        else:
            key, _unused, value = line.partition(":")
            fields[key] = [value.strip()]


def _date(text: str, where: str) -> datetime:
    try:
        found = parsedate_to_datetime(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise BcmError(where, f'has an invalid date "{text[:80]}"', "refused", code="not_verified") from error
