# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A count of changes, so that a step that fails half-way does not claim that nothing was changed."""

from __future__ import annotations

import itertools
import threading

_all = itertools.count(1)
_latest = 0
_thread = threading.local()


def note() -> None:
    """Count a change that was made, or may have been made."""
    global _latest
    _latest = next(_all)
    _thread.count = made_here() + 1


def made() -> int:
    """The number of changes of this process; it only grows."""
    return _latest


def made_here() -> int:
    """The number of changes that the calling thread made."""
    return getattr(_thread, "count", 0)
