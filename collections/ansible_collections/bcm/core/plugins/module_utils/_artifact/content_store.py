# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Artifacts on the controller's disk, each named by its digest, and either complete or missing.

``<algorithm>/<digest>`` is what has that digest, ``partial`` what is on its way, ``refused`` what came instead of
something and is kept for a person to look at, ``releases`` what was found out about releases.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._base.disk import sync_to_disk
from .._base.errors import BcmError
from .._base.locks import Busy, hold_lock, raise_busy
from .._base.read import has_shape, read_moment, read_object

_RECORD = {"files": {str: str}, "blobs": [str], "evidence": {str: str}, "date": str, "until": (str, None)}
_ALGORITHMS = ("sha256", "sha512")
_DIGEST = re.compile(r"^\w+")
_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Entry:
    """One file whose digest was verified when it came. Size in bytes."""

    algorithm: str
    digest: str
    size: int


class ContentStore:
    """The artifacts below one directory, safe for several runs at once. Raises BcmError if the disk fails."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "bcm" / "artifacts"
        self.root = Path(root or default).expanduser()

    def get(self, algorithm: str, digest: str) -> Path | None:
        """The file with a digest, as it was verified when it came."""
        path = self.root / algorithm / digest
        return path if path.is_file() else None

    def check(self, algorithm: str, digest: str) -> Path | None:
        """The file with a digest, verified again; what is damaged is kept aside, and None."""
        path = self.get(algorithm, digest)
        if path is None:
            return None
        with self._io_errors():
            found = _digest(path, algorithm)
            if found == digest:
                return path
            self._refuse(path, found, "damaged")
        return None

    def entries(self) -> list[Entry]:
        """All whole files."""
        paths = [path for algorithm in _ALGORITHMS for path in sorted((self.root / algorithm).glob("*"))]
        return [Entry(path.parent.name, path.name, path.stat().st_size) for path in paths]

    @contextlib.contextmanager
    def lock(self, digest: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold the one lock of a digest on this machine; ``waiting`` is called once if another run has it."""
        path = self._folder("partial") / f"{digest}.lock"
        with contextlib.ExitStack() as stack:
            with self._io_errors():
                stack.enter_context(hold_lock(path, waiting))
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def partial(self, digest: str) -> Path:
        """Return the path for a file before it is committed. Needs the lock, as all work with it does."""
        return self._folder("partial") / digest

    def commit(self, partial: Path, algorithm: str, digest: str, name: str, found: str | None = None) -> Path:
        """Make a partial file the one with this digest; ``found`` is what it has, if that is known already.

        Raises BcmError if it has another, and keeps it aside.
        """
        with self._io_errors():
            found = found or _digest(partial, algorithm)
            _state(partial).unlink(missing_ok=True)
            if found != digest:
                kept = self._refuse(partial, found, name)
                raise BcmError(
                    name,
                    f"has the {algorithm} digest {found}, pinned is {digest}: it is not what was released, or was "
                    "damaged on the way;",
                    f"kept as {kept}, never used",
                    code="not_verified",
                )
            return self._place(partial, self._folder(algorithm) / digest)

    def copy(self, source: Path, algorithm: str, digest: str, name: str) -> Path:
        """Commit a copy of a file. Needs the lock. Raises BcmError as ``commit`` does."""
        partial = self.partial(digest)
        with self._io_errors():
            try:
                shutil.copyfile(source, partial)
            except BaseException:  # unlike a download, it is not gone on with
                partial.unlink(missing_ok=True)
                raise
        return self.commit(partial, algorithm, digest, name)

    def put(self, data: bytes) -> str:
        """Keep something small; its SHA-256 digest."""
        digest = hashlib.sha256(data).hexdigest()
        if self.get("sha256", digest) is None:
            self._write(self._folder("sha256") / digest, data)
        return digest

    def read_record(self, name: str) -> dict[str, Any] | None:
        try:
            return _record_in(self._record(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def write_record(self, name: str, record: Mapping[str, Any]) -> None:
        self._folder("releases")
        self._write(self._record(name), f"{json.dumps(record, indent=2)}\n".encode())

    def prune(self, keep: Collection[tuple[str, str]], older_than: float) -> tuple[int, list[Path]]:
        """Remove what came more than ``older_than`` days ago and is not kept; the bytes freed, and what is gone.

        Files that another run is using are kept.
        """
        freed, gone = 0, []
        for folder in (*_ALGORITHMS, "partial", "refused"):
            for path in sorted((self.root / folder).glob("*")):
                if (folder, path.name) in keep:
                    continue
                if_there = contextlib.suppress(FileNotFoundError)
                with contextlib.suppress(Busy), self._idle(path), self._io_errors(), if_there:
                    stat = path.stat()
                    if path.suffix != ".lock" and time.time() - stat.st_mtime >= older_than * _DAY:
                        path.unlink()
                        freed += stat.st_size
                        gone.append(path)
        return freed, gone

    def _idle(self, path: Path) -> contextlib.AbstractContextManager[None]:
        return self.lock(_DIGEST.findall(path.name)[0], raise_busy)

    def _record(self, name: str) -> Path:
        return self.root / "releases" / f"{name}.json"

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        with self._io_errors():
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        return folder

    def _write(self, path: Path, data: bytes) -> None:
        folder = self._folder("partial")
        with self._io_errors(), tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                self._place(Path(file.name), path)
            except BaseException:
                os.unlink(file.name)
                raise

    def _place(self, path: Path, target: Path) -> Path:
        """Rename so that after a crash the target is either whole or not there."""
        path.chmod(0o644)
        sync_to_disk(path)
        path.rename(target)
        sync_to_disk(target.parent)
        return target

    def _refuse(self, path: Path, found: str, name: str) -> Path:
        """Move a file with a wrong digest to ``refused``, once."""
        return path.rename(self._folder("refused") / f"{found}-{name[:100]}")

    @contextlib.contextmanager
    def _io_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BcmError(
                f"Artifacts below {self.root}:",
                f"{error.strerror or error};",
                "make it writable with room on its disk, or set XDG_CACHE_HOME",
                code="io_error",
            ) from error


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _state(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.state")


def _record_in(text: str) -> dict[str, Any]:
    """A record, whose fields are all optional. Raises ValueError."""
    found = read_object(text)
    if not has_shape(found, {name: shape for name, shape in _RECORD.items() if name in found}):
        raise ValueError("it is not a record")
    for name in ("date", "until"):
        if found.get(name) is not None:
            read_moment(found[name])
    return found
