# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files in directories that belong to a service, for programs that run as root: ``bcm_guest.volume_files``.

The service could put a link there. So none is followed, in no part of a path, and what is written is complete or not
there: it is written beside the file, and then renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe in the place of a file would wait for somebody who writes to it.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_file(path: Path) -> bytes:
    """Content of a file. Raises OSError, also if it is a link, or reached by one."""
    with _directory(path.parent) as directory, open(os.open(path.name, _READ, dir_fd=directory), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "Not a file", str(path))
        return file.read()


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write a file, or replace it. Raises OSError, also if its directory is reached by a link."""
    fresh = f"{path.name}.new"
    with _directory(path.parent) as directory:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=directory)  # of a program that was killed
        with open(os.open(fresh, _CREATE, mode, dir_fd=directory), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)


def remove_file(path: Path) -> None:
    """Remove a file or a link, if it is there. Raises OSError, also if its directory is reached by a link."""
    with contextlib.suppress(FileNotFoundError), _directory(path.parent) as directory:
        os.unlink(path.name, dir_fd=directory)


def list_files(path: Path, suffix: str) -> list[Path]:
    """Paths in a directory whose names end with a suffix; none if it is missing. Raises OSError, also for a link."""
    try:
        with _directory(path) as directory:
            return sorted(path / name for name in os.listdir(directory) if name.endswith(suffix))
    except FileNotFoundError:
        return []


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory that is missing. Raises OSError, also if it is a link, or reached by one."""
    with _directory(path.parent) as directory:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path.name, mode, dir_fd=directory)
        os.close(os.open(path.name, _DIRECTORY, dir_fd=directory))


@contextlib.contextmanager
def _directory(path: Path) -> Iterator[int]:
    """A descriptor of a directory, by its absolute path."""
    descriptor = os.open("/", _DIRECTORY)
    try:
        for part in path.parts[1:]:
            below = os.open(part, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)
