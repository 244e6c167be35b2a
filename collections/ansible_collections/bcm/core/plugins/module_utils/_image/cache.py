# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The disk cache of images on the controller: one directory per hash, which is either complete or missing.

An entry is written to a temporary directory and renamed; ``image.json``, with the sizes of the other files, says that
it is complete. The endpoint computes its fingerprint when it receives the files, so damage is noticed there at the
latest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .._base.locks import hold_lock
from .._base.read import read_object

_INDEX = "image.json"


@dataclass(frozen=True)
class Entry:
    """One image: ``files`` is part -> name; the parts are ``image``, or ``metadata`` and ``rootfs``. Sizes in bytes."""

    hash: str
    alias: str
    fingerprint: str
    files: dict[str, str]
    properties: dict[str, str]
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(self.sizes.values())


class Cache:
    """The entries below one directory, safe for several runs at once."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "bcm" / "images"
        self.root = Path(root or default).expanduser()

    def path(self, entry: Entry, part: str) -> Path:
        return self.root / entry.hash / entry.files[part]

    def get(self, image_hash: str) -> Entry | None:
        """Return the entry of a hash; None if there is no complete one."""
        directory = self.root / image_hash
        try:
            entry = Entry(**read_object((directory / _INDEX).read_text(encoding="utf-8")))
            whole = entry.hash == image_hash and all(
                (directory / name).stat().st_size == entry.sizes[name] for name in entry.files.values()
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return entry if whole else None

    def entries(self) -> list[Entry]:
        """All whole entries."""
        found = (self.get(name) for name in self._names() if not name.startswith("."))
        return [entry for entry in found if entry is not None]

    def used(self, image_hash: str) -> float:
        """Seconds since the entry was made or last taken to an endpoint."""
        try:
            return time.time() - (self.root / image_hash / _INDEX).stat().st_mtime
        except OSError:
            return 0.0

    def touch(self, image_hash: str) -> None:
        with contextlib.suppress(OSError):
            os.utime(self.root / image_hash / _INDEX)

    @contextlib.contextmanager
    def lock(self, image_hash: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the one lock of a hash on this machine; ``waiting`` is called once if another run has it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.root / f".lock-{image_hash}", waiting):
            self._sweep(image_hash)
            yield

    @contextlib.contextmanager
    def draft(self, image_hash: str) -> Iterator[Path]:
        """Yield a directory for the files of a new entry; it is removed unless ``commit`` took it. Needs the lock."""
        prefix = f".new-{image_hash}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.root, ignore_cleanup_errors=True) as name:
            yield Path(name)

    def commit(self, draft: Path, entry: Entry) -> Entry:
        """Make a draft the entry of its hash, in place of a former one."""
        sizes = {name: (draft / name).stat().st_size for name in entry.files.values()}
        entry = Entry(**{**asdict(entry), "sizes": sizes})
        (draft / _INDEX).write_text(json.dumps(asdict(entry), indent=2) + "\n", encoding="utf-8")
        self.remove(entry.hash)
        draft.chmod(0o755)
        draft.rename(self.root / entry.hash)
        return entry

    def remove(self, image_hash: str) -> None:
        """Remove an entry, its index first: what is left of it after a kill is not trusted."""
        directory = self.root / image_hash
        (directory / _INDEX).unlink(missing_ok=True)
        if directory.exists():
            shutil.rmtree(directory)

    def forget(self, image_hash: str) -> None:
        """Remove the entry of a hash, and what else is on the disk for it, such as its lock. Needs the lock."""
        self.remove(image_hash)
        self.set_baker(image_hash, "")
        (self.root / f".lock-{image_hash}").unlink(missing_ok=True)

    def baker(self, image_hash: str) -> str:
        """Return the run that bakes an image, as ``bake.this_run`` writes it; empty if none does. Needs the lock."""
        try:
            return self._baking(image_hash).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def set_baker(self, image_hash: str, run: str) -> None:
        """Note which run bakes an image; an empty one removes the note. Needs the lock."""
        if run:
            self._baking(image_hash).write_text(run, encoding="utf-8")
        else:
            self._baking(image_hash).unlink(missing_ok=True)

    def _baking(self, image_hash: str) -> Path:
        return self.root / f".baking-{image_hash}"

    def hashes(self) -> set[str]:
        """Hashes of which anything is on the disk, whole or not."""
        return {name.split("-")[1] if name.startswith(".") else name for name in self._names()}

    def _names(self) -> list[str]:
        return sorted(os.listdir(self.root)) if self.root.is_dir() else []

    def _sweep(self, image_hash: str) -> None:
        """Remove what killed runs left; holding the lock shows that no run is using it."""
        for draft in self.root.glob(f".new-{image_hash}-*"):
            shutil.rmtree(draft, ignore_errors=True)
