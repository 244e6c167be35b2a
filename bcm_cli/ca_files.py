# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that `bcm ca issue` and `bcm ca export` write: certificates, keys and lists in a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._base.disk import write_files
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError

from .datacenter import UsageError

#: path -> content and mode
Files = Mapping[Path, tuple[str | bytes, int]]


def open_folder(name: str) -> Path:
    """Return a writable folder; it is created if it does not exist. Raises UsageError."""
    folder = Path(os.path.expanduser(name)).absolute()  # which takes any text
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
        fault = "you may not write to it"
    except OSError as error:
        fault = error.strerror or str(error)
    raise UsageError(folder, f"cannot be used: {fault}", "name a folder that you may write to")


def write(files: Files) -> None:
    """Write all files, each atomically. Raises BcmError."""
    try:
        write_files(*((path, content, mode) for path, (content, mode) in files.items()))
    except OSError as error:
        where = error.filename2 or error.filename or next(iter(files))
        raise BcmError(
            where, f"cannot be written: {error.strerror}", "make room for it, and run it again", code="io_error"
        ) from error


def refuse_to_replace(paths: Sequence[Path]) -> None:
    """Raise BcmError if there are such files."""
    if paths:
        raise BcmError(
            ", ".join(map(str, paths)),
            "would be replaced by another key",
            "name another folder, or add --force; no file was written",
            code="conflict",
        )


def has_other_content(path: Path, content: str | bytes) -> bool:
    """Whether a file exists that holds something else."""
    try:
        return path.read_bytes() != (content.encode() if isinstance(content, str) else content)
    except FileNotFoundError:
        return False
    except OSError:
        return True
