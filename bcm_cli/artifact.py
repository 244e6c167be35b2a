# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm artifact`: list, download, verify, export, import and prune the releases of stacks."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._artifact.artifact_settings import artifacts
from ansible_collections.bcm.core.plugins.module_utils._artifact.artifacts import FETCHED, Artifacts
from ansible_collections.bcm.core.plugins.module_utils._artifact.declaration import Release
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import amount, duration, harmless, shown
from ansible_collections.bcm.core.plugins.module_utils._plan.stack import changes_of

from . import setup
from .datacenter import DataCenter, UsageError
from .output import answer
from .stacks import checked

#: a release for one architecture, and the folder of its signers' keys
Wanted = tuple[Release, Path]


@dataclass(frozen=True)
class _Source:
    """One source of a stack, with the inventory's changes if the data center uses it.

    Of those that are used, the preferred come first.
    """

    release: Release
    used: bool
    keys: Path

    def releases(self) -> list[Wanted]:
        """Return one release for each architecture, as the playbook does: each is verified separately."""
        return [(self.release.only(name), self.keys) for name in self.release.architectures]


def show(args: argparse.Namespace) -> int:
    """List every source of every stack, and its files in the store."""
    found = of(args)
    rows: list[dict[str, Any]] = []
    for source in sources(args.datacenter, []):
        release = source.release
        there = {one.architectures[0]: record for one, _keys in source.releases() if (record := found.recorded(one))}
        signers = [name for record in there.values() for name in record["signers"]]
        row = {key: getattr(release, key) for key in ("stack", "source", "kind", "name", "version")}
        row["version"] = next((record["version"] for record in there.values()), release.version)
        row |= {"used": source.used, "in_store": list(there) if release.kind in FETCHED else None}
        row |= {"signers": list(dict.fromkeys(signers)), "threshold": release.signed and release.signed.threshold}
        rows.append(row)
    if args.json:
        return answer({"artifacts": rows}, True)
    for row in rows:
        there, signers, threshold = (row.pop(key) for key in ("in_store", "signers", "threshold"))
        row["in store"] = "no" if there == [] else there
        row["signed by"] = f"{', '.join(signers) or 'not verified yet'} ({threshold} needed)" if threshold else None
    return answer(rows, False)


def fetch(args: argparse.Namespace) -> int:
    """Download and verify the artifacts of stacks and of the stacks they need."""
    with open_artifacts(args) as found:
        architecture = None if args.all_architectures else platform.machine()
        wanted = needed(args.datacenter, args.stacks, architecture, found)
        records = found.present(wanted)
    return answer([_row(release, record) for (release, _keys), record in zip(wanted, records, strict=True)], args.json)


def verify(args: argparse.Namespace) -> int:
    """Verify the store again; the exit status is 1 if anything fails, after everything was tried."""
    wanted = [one for source in sources(args.datacenter, args.stacks) for one in source.releases()]
    rows = []
    with open_artifacts(args) as found:
        for release, keys in wanted:
            if found.recorded(release) is None:
                continue
            try:
                rows.append({**_row(release, found.verify(release, keys)), "verified": True})
            except BcmError as error:
                rows.append({**_row(release, {"explained": str(error)}), "verified": False})
    there = {row["stack"] for row in rows}
    missing = {release.stack for release, _keys in wanted if args.stacks and release.stack not in there}
    if rows or not missing:
        answer(rows, args.json)
    if missing:
        raise BcmError(
            "The store",
            f"has nothing of {', '.join(sorted(missing))}",
            "type `bcm artifact fetch` first",
            code="not_ready",
        )
    return 0 if all(row["verified"] for row in rows) else 1


def prune(args: argparse.Namespace) -> int:
    """Delete artifacts that the catalogue no longer names."""
    keep = [release for source in sources(args.datacenter, []) for release, _keys in source.releases()]
    freed, gone = of(args).prune(keep, args.older_than)
    return answer({"removed": gone, "freed": freed if args.json else amount(freed) or "nothing"}, args.json)


def export(args: argparse.Namespace) -> int:
    """Write a folder that another machine can import."""
    with open_artifacts(args) as found:
        architecture = None if args.all_architectures else platform.machine()
        wanted = needed(args.datacenter, args.stacks, architecture, found)
        found.present(wanted)
        written = found.export(wanted, Path(args.folder).expanduser())
    return answer({"written": written} if args.json else [{"written": name} for name in written], args.json)


def import_folder(args: argparse.Namespace) -> int:
    """Verify an exported folder and add it to the store."""
    folder = Path(args.folder).expanduser().absolute()
    if not folder.is_dir():
        raise UsageError(folder, "is not a folder", "name one that `bcm artifact export` wrote")
    args.source = str(folder)
    with open_artifacts(args) as found:
        wanted = needed(args.datacenter, args.stacks, None)
        there = [one for one in wanted if Path(found.locate(one[0], one[0].first)).exists()]
        missing = set(args.stacks) - {release.stack for release, _keys in there}
        if missing or not there:
            what = ", ".join(sorted(missing)) or "what this data center needs"
            raise BcmError(folder, f"has nothing of {what} in the pinned version", "export it again", code="not_found")
        records = [
            record if record["changed"] else found.verify(*one)
            for one, record in zip(there, found.present(there), strict=True)
        ]
    return answer([_row(release, record) for (release, _keys), record in zip(there, records, strict=True)], args.json)


def _row(release: Release, record: dict[str, Any]) -> dict[str, Any]:
    (architecture,) = release.architectures
    version = record.get("version", release.version)
    row = {"stack": release.stack, "source": release.source, "version": version, "architecture": architecture}
    return {**row, "result": record["explained"]}


# -- which ------------------------------------------------------------------------------------------------------------


def sources(datacenter: DataCenter, stacks: Iterable[str]) -> list[_Source]:
    """Return all sources of these stacks, or of all stacks."""
    known = checked(datacenter, stacks)
    declared = datacenter.variable("bcm_artifacts")
    found = []
    for name in stacks or known:
        stack = known[name]
        changes = changes_of(name, declared)
        used = stack.artifact.preferred(name, datacenter.variable(f"{stack.prefix}_source"), changes)
        for source in (*used, *(other for other in stack.artifact.sources if other not in used)):
            release = stack.artifact.release(name, source, changes if source in used else {})
            found.append(_Source(release, source in used, stack.artifact.keys_path))
    return found


def needed(
    datacenter: DataCenter, stacks: Iterable[str], architecture: str | None, found: Artifacts | None = None
) -> list[Wanted]:
    """Return what is downloaded for these stacks, or all, and the stacks they need: for one architecture, or each.

    Where a list of sources is preferred, each of them, or with ``found`` the first that it can reach.
    """
    known = checked(datacenter, stacks)
    wanted = []
    for name in known.ordered(known.closure(stacks or known)):
        used = [source for source in sources(datacenter, [name]) if source.used]
        for source in [_first_in_reach(found, used, architecture)] if found else used:
            each = source.releases()
            if each and architecture:
                source.release.only(architecture)  # raises BcmError if there is none
            wanted += [one for one in each if architecture in (None, *one[0].architectures)]
    if not wanted:
        setup.step("Nothing to download here: these artifacts are downloaded and verified while an image is baked")
    return wanted


def _first_in_reach(found: Artifacts, used: list[_Source], architecture: str | None) -> _Source:
    for source in used[:-1]:
        try:
            fault = found.out_of_reach(source.release.only(architecture) if architecture else source.release)
        except BcmError as error:
            fault = str(error)
        if fault is None:
            return source
        found.notify(f"{source.release.stack}: its source {source.release.source} is out of reach: {fault}")
    return used[-1]


# -- how --------------------------------------------------------------------------------------------------------------


def of(args: argparse.Namespace, live: _Live | None = None) -> Artifacts:
    """Return the artifacts, with the settings of the data center unless options override them."""
    datacenter, given = args.datacenter, vars(args)
    settings: dict[str, Any] = {}
    for name in ("source", "proxy", "keys"):
        option = given.get(name)
        settings[f"artifact_{name}"] = datacenter.variable(f"bcm_artifact_{name}") if option is None else option
        if name != "proxy":
            # Ansible runs in the repository, and reads the inventory's relative paths from there.
            base = setup.ROOT if option is None else Path()
            settings[f"artifact_{name}"] = _absolute(settings[f"artifact_{name}"], base)
    return artifacts(settings, datacenter.chain, live.say if live else setup.step, live)


def _absolute(value: Any, base: Path) -> Any:
    """Return folders as absolute paths, and addresses unchanged."""
    if isinstance(value, list):
        return [_absolute(item, base) for item in value]
    if not value or value == "wkd" or "://" in value:
        return value
    return str((base / Path(value).expanduser()).absolute())


@contextmanager
def open_artifacts(args: argparse.Namespace) -> Iterator[Artifacts]:
    """Yield the artifacts; on a terminal, show a line for each file that is being downloaded."""
    if not sys.stderr.isatty():
        yield of(args)
        return
    live = _Live()
    try:
        yield of(args, live)
    finally:
        live.end()


class _Live:
    """Shows downloads on a terminal, one below the other, below all other output. Called by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, tuple[float, int]] = {}
        self._texts: dict[str, str] = {}
        self._shown = 0
        self._drawn = 0.0
        self._ended = False

    def __call__(self, name: str, done: int, total: int | None) -> None:
        with self._lock:
            now = time.monotonic()
            is_new = name not in self._begun
            begun, first = self._begun.setdefault(name, (now, done))
            if done < first:  # it was started over
                begun, first = self._begun[name] = (now, done)
            rate = (done - first) / (now - begun) if now > begun else 0
            text = f"{name}  {amount(done) or '0 MB'}{f' of {amount(total)}' if total else ''}"
            if rate:
                text += f"  {rate / 1e6:.1f} MB/s" + (f"  {duration((total - done) / rate)} left" if total else "")
            self._texts[name] = text
            if done == total:
                del self._texts[name], self._begun[name]
            if is_new or now - self._drawn > 0.1:
                self._draw([])

    def say(self, text: str) -> None:
        with self._lock:
            self._draw([f"bcm: {shown(text)}"])

    def end(self) -> None:
        with self._lock:
            self._texts.clear()
            self._draw([])
            self._ended = True

    def _draw(self, above: list[str]) -> None:
        if self._ended:
            return
        width = shutil.get_terminal_size().columns - 1
        lines = [*above, *(harmless(text)[:width] for text in self._texts.values())]
        up = f"\033[{self._shown}A\r\033[J" if self._shown else ""
        print(up + "".join(f"{line}\n" for line in lines), end="", file=sys.stderr, flush=True)
        self._shown, self._drawn = len(self._texts), time.monotonic()
