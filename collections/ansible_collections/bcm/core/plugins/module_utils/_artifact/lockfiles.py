# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lock files of roles: check that they pin all that npm, pip or Ivy will download, against which it is verified."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .._base.errors import BcmError
from .._base.read import read_object
from .declaration import Release

_INTEGRITY = re.compile(r"(^|\s)sha512-[A-Za-z0-9+/]{86}==(\s|$)")  # the strongest of several is what npm checks
_COMMENT = re.compile(r"(^|\s)#.*")
_REQUIREMENT = re.compile(
    r"(?P<name>\w[\w.-]*)(\[[\w., -]+\])? ?== ?(?P<version>[\w.!+]+) ?(;((?!--).)+)?( --hash=sha256:[0-9a-f]{64})+"
)

#: the coordinates of a jar in a Maven repository, and its digest; `maven.yml` of the role _common reads the same
_JAR = re.compile(
    r"(?P<name>\w[\w.-]*:(?P<artifact>\w[\w.-]*)):(?P<version>\w[\w.-]*) sha256:[0-9a-f]{64}", re.ASCII
)


def check(release: Release, role_path: Path) -> None:
    """Refuse a release whose lock file does not pin everything. Raises BcmError, which names the file."""
    if release.lock is None:
        return
    path = role_path / release.lock
    found = _LOCKED[release.kind](path, release.name)
    if found != {release.version}:
        locked = " and ".join(sorted(found)) or "none"
        raise BcmError(
            path, f"locks {release.name} {locked}, pinned is {release.version}", "lock it again", code="conflict"
        )


def _npm(path: Path, name: str) -> set[str]:
    _object(path.with_name("package.json"))
    lock = _object(path)
    packages = lock.get("packages")
    if lock.get("lockfileVersion") not in (2, 3) or not isinstance(packages, dict):
        raise BcmError(
            path, "is not a lock file of version 2 or 3", "lock it again, with npm 7 or later", code="unsupported"
        )
    for place, package in packages.items():
        if place and not (isinstance(package, dict) and package.get("link")):
            fault = _fault(package if isinstance(package, dict) else {})
            if fault:
                raise BcmError(f"{path}:", f"{place} {fault}", code="invalid_value")
    own = packages.get(f"node_modules/{name}", {})
    return {str(own["version"])} if own.get("name", name) == name and "version" in own else set()


def _fault(package: Mapping[str, Any]) -> str:
    if not _INTEGRITY.search(str(package.get("integrity", ""))):
        return "has no integrity with SHA-512: take it from a registry that has one, not from git or a folder"
    # Which registry is asked is a matter of the machine: an office may have a mirror, and no other has to answer.
    if "resolved" in package:
        return "names where it was found: lock it again with npm's setting omit-lockfile-registry-resolved"
    if package.get("hasShrinkwrap"):
        return "brings a lock file of its own, which is not reviewed: take a version without one"
    return ""


def _wheels(path: Path, name: str) -> set[str]:
    found = set()
    for line in re.sub(r"\\\n", " ", _text(path)).splitlines():
        line = " ".join(_COMMENT.sub("", line).split())
        match = _REQUIREMENT.fullmatch(line)
        if match is None and line:
            raise BcmError(
                f"{path}:",
                f'"{line[:80]}" is no NAME==VERSION with --hash=sha256:…',
                "lock it again with hashes",
                code="invalid_value",
            )
        if match and _normal(match["name"]) == _normal(name):
            found.add(match["version"])
    return found


def _jars(path: Path, name: str) -> set[str]:
    found, files = set(), set()
    for line in _text(path).splitlines():
        match = _JAR.fullmatch(line)
        if match is None:
            raise BcmError(
                f"{path}:",
                f'"{line[:80]}" is no GROUP:ARTIFACT:VERSION with sha256:…',
                "correct it",
                code="invalid_value",
            )
        file = f"{match['artifact']}-{match['version']}.jar"
        if file in files:
            raise BcmError(f"{path}:", f"{file} is there twice", "leave one of them out", code="invalid_value")
        files.add(file)
        if match["name"] == name:
            found.add(match["version"])
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _object(path: Path) -> dict[str, Any]:
    try:
        return read_object(_text(path))
    except ValueError as error:
        raise BcmError(path, f"is not an object in JSON: {error};", "lock it again", code="damaged") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BcmError(path, f"cannot be read: {error}; it has to come with the role", code="io_error") from error


#: kind -> versions that a lock file has of the package with this name
_LOCKED: dict[str, Callable[[Path, str], set[str]]] = {
    "maven": _jars,
    "npm": _npm,
    "wheels": _wheels,
}
