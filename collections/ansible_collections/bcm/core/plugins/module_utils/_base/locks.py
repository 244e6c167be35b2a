# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks between the runs on one machine: files, so that a killed run holds none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import BcmError


class Busy(Exception):
    """Another run, or thread, has the lock."""


def raise_busy() -> None:
    """Pass this as ``waiting`` to raise Busy instead of waiting."""
    raise Busy


@contextlib.contextmanager
def hold_lock_within(path: Path, seconds: float, fault: BcmError) -> Iterator[None]:
    """Hold the lock at a path; raise the fault if another run holds it for longer than the time given."""
    deadline = time.monotonic() + seconds
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(hold_lock(path, raise_busy))
                break
            except Busy:
                if time.monotonic() > deadline:
                    raise fault from None
                time.sleep(0.05)
        yield


@contextlib.contextmanager
def hold_lock(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock at a path; ``waiting`` is called once if another run, or thread, has it.

    The holder may remove the file. One that holds something is left unchanged.
    """
    while True:
        with open(path, "a", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file.fileno(), path):
                continue  # the former holder removed the file: this would be a lock on nothing
            yield
            return


@contextlib.contextmanager
def share_lock(path: Path) -> Iterator[Callable[[], None]]:
    """Share the lock at a path with other runs; yield what waits until this one alone has it."""
    with open(path, "a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield lambda: fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
