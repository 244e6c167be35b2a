# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs in an instance, as root: finds files that neither its packages nor a run installed. Standard library only.

It does not find what an attacker with root hides with care, since that attacker may have changed the programs it uses.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

_STAMPS = Path("/var/lib/bcm/units")
#: the same for files of no unit
_FILES = Path("/var/lib/bcm/files")
_LISTS = Path("/var/lib/dpkg/info")
_GENERATED = ("/run/systemd/generator",)
# absent from an image, or private to a program
_LEFT_OUT = ("/var/", "/usr/share/doc", "/usr/share/man", "/usr/share/locale", "/usr/share/info", "/usr/share/lintian")
_EXCLUSIVE = (
    *(f"{root}/systemd/network" for root in ("/etc", "/run", "/usr/local/lib")),
    *(f"/etc/systemd/{name}.conf.d" for name in ("networkd", "resolved", "journald", "system")),
)
# where systemd looks for units, and for links that start them
_UNITS = (
    *(f"{root}/systemd/{name}" for name in ("system", "system.control") for root in ("/etc", "/run")),
    *(f"{root}/systemd/system" for root in ("/usr/local/lib", "/usr/lib")),
)
_STARTING = (".wants", ".requires", ".upholds")
_SECONDS = 60.0  # for the digests of all files of all packages
_MOST = 20  # messages of a kind; a longer list would not help


def recorded_digests() -> dict[str, str]:
    """Return the digests of the files that the last run wrote, by path: the stamps and lists after their first line."""
    found = {}
    for path in sorted([*_STAMPS.glob("*.digest"), *_FILES.glob("*.digest")]):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
            digest, _space, name = line.partition("  ")
            found[name] = digest
    return found


def find_changed_files(files: dict[str, str]) -> list[str]:
    """Return files that have changed since a run wrote them."""
    found = []
    for name, digest in files.items():
        try:
            content = Path(name).read_bytes()
        except OSError:
            content = None
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            found.append(f"{name} differs from what the last run wrote")
    return found


def find_files_unlike_image(base: dict[str, str], files: dict[str, str]) -> list[str]:
    """Return files and links of the ``base`` image that have changed and that no run wrote."""
    found = []
    for name, digest in base.items():
        path = Path(name)
        try:
            content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        except OSError:
            content = None
        if name not in files and (content is None or hashlib.sha256(content).hexdigest() != digest):
            found.append(f"{name} differs from the base image of this version")
    return found


def packaged_unit_files() -> set[str]:
    """Return the packages' files that define units; /lib and /usr/lib are the same."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in _LISTS.glob("*.list"))
    lines = (line for text in texts for line in text.splitlines())
    return {line.removeprefix("/usr") for line in lines if "/systemd/" in line}


def find_foreign_units(files: dict[str, str]) -> list[str]:
    """Return units and drop-ins that are neither of a package nor of a run."""
    argv = ["systemctl", "show", "--all", "--property=Id,FragmentPath,DropInPaths", "*"]
    shown = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False).stdout
    known, found = packaged_unit_files(), []
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        for path in (unit.get("FragmentPath", ""), *unit.get("DropInPaths", "").split()):
            foreign = path and path not in files and path.removeprefix("/usr") not in known
            # a masked unit does nothing
            if foreign and not path.startswith(_GENERATED) and not _is_masked(path):
                found.append(f"unit {unit.get('Id')} has {path}, which neither a package nor a run installed")
    return found


def find_foreign_links(links: list[str], base: dict[str, str], files: dict[str, str]) -> list[str]:
    """Return units that are started by a link which is of no package, no run, and not one of the base image's.

    ``links`` are those of the image that packages' scripts made, ``base`` its other files by path.
    """
    own = {path.name.removesuffix(".digest").removesuffix(".service") for path in _STAMPS.glob("*.digest")}
    known, owned = {*links, *base, *files}, packaged_unit_files()
    found = []
    for directory in map(Path, _UNITS):
        starting = [path for path in sorted(directory.glob("*")) if path.suffix in _STARTING and path.is_dir()]
        for path in (*sorted(directory.glob("*")), *(link for folder in starting for link in sorted(folder.glob("*")))):
            if not path.is_symlink() or str(path) in known or str(path).removeprefix("/usr") in owned:
                continue
            names = {name.removesuffix(".service") for name in (path.name, os.path.basename(os.readlink(path)))}
            # a masked unit does nothing
            if not names & own and not _is_masked(str(path)):
                found.append(f"unit {path.name} is enabled by {path}, which is of no image, package or run")
    return found


def _is_masked(path: str) -> bool:
    try:
        return Path(path).resolve() == Path("/dev/null")
    except (ValueError, OSError, RuntimeError):  # no path, or a loop of links
        return False


def find_foreign_configuration(files: dict[str, str], base: dict[str, str]) -> list[str]:
    """Return foreign files in directories that configure the network and the logs; ``base`` are those of the image."""
    known = {*files, *base}
    present = (path for directory in _EXCLUSIVE for path in sorted(Path(directory).rglob("*")))
    foreign = [path for path in present if (path.is_symlink() or not path.is_dir()) and str(path) not in known]
    owned = packaged_unit_files() if foreign else set()
    return [
        f"{path} is there, which neither a package nor a run installed"
        for path in foreign
        if str(path).removeprefix("/usr") not in owned
    ]


def find_files_unlike_package() -> list[str]:
    """Return files that differ from their package, except configuration."""
    try:
        done = subprocess.run(
            ["dpkg", "--verify"], capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return [f"packages could not be compared with their files within {_SECONDS:g} s"]
    found = re.findall(r"^(?:[?.5]{9}|missing)\s+(?!c )(/.*)$", done.stdout, re.MULTILINE)
    return [f"{path} differs from its package" for path in found if not path.startswith(_LEFT_OUT)]


def main(request: dict[str, Any]) -> dict[str, list[str]]:
    files, base = recorded_digests(), request["base"]
    kinds = [
        find_changed_files(files),
        find_files_unlike_image(base, files),
        find_foreign_units(files),
        find_foreign_links(request["links"], base, files),
        find_foreign_configuration(files, base),
        find_files_unlike_package() if request["packages"] else [],
    ]
    return {"messages": [fault for found in kinds for fault in _truncate(found)]}


def _truncate(found: list[str]) -> list[str]:
    return found if len(found) <= _MOST else [*found[:_MOST], f"and {len(found) - _MOST} more of this kind"]


if __name__ == "__main__":
    json.dump(main(json.load(sys.stdin)), sys.stdout)
