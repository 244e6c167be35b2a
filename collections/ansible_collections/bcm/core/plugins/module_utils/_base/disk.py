# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Atomic writes: a file is either absent or complete, also after a crash."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import change_count
from .errors import BcmError


@contextlib.contextmanager
def draft(path: Path, content: str | bytes | Iterable[bytes], mode: int = 0o600) -> Iterator[str]:
    """Yield a temporary file to be renamed to ``path``; it is removed if it was not. Raises OSError."""
    chunks = [content.encode()] if isinstance(content, str) else [content] if isinstance(content, bytes) else content
    # mkstemp gives mode 0600, so a secret is private before its mode is set
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def write_files(*files: tuple[Path, str | bytes, int]) -> None:
    """Replace files, each with a content and a mode, after all of them are completely on disk. Raises OSError."""
    with contextlib.ExitStack() as drafts:
        written = [(drafts.enter_context(draft(*file)), file[0]) for file in files]
        for name, path in written:
            os.replace(name, path)
            change_count.note()
            sync_to_disk(path.parent)


@contextlib.contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Convert OSError to BcmError; ``what`` says what is being written, and where."""
    before = change_count.made()
    try:
        yield
    except OSError as error:
        changed = "not all was written" if change_count.made() > before else "nothing was changed"
        raise BcmError(
            f"{what}:",
            f"{error.strerror or error}; {changed}",
            "make it writable with room on its disk, and run again",
            code="io_error",
        ) from error


def remove_drafts(path: Path) -> None:
    """Remove drafts that a killed run left beside a file. Needs its lock; raises OSError."""
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink()


def make_private_directory(directory: Path) -> None:
    """Create a directory that only its owner can read. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    ignored = directory / ".gitignore"  # inventories are often kept in git
    if not ignored.exists():
        ignored.write_text("*\n", encoding="utf-8")


def sync_to_disk(path: Path) -> None:
    """Flush a file, or the names in a directory, to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
