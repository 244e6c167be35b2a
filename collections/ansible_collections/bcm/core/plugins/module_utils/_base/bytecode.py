# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules below `module_utils`, loaded as Python does, which keeps what it has compiled in ``__pycache__``.

Ansible's loader compiles each module of a collection in each run: a fifth of a second before anything happens.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from types import ModuleType

_PACKAGE = __name__.rpartition("._base.")[0]


class _Finder:
    """Finds modules of our packages in directories; Ansible's finder is asked for all others."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(f"{_PACKAGE}.") or not path:
            return None
        found = FileFinder(path[0], (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)
        return found if found and found.loader else None


def use_bytecode() -> None:
    """From now on, load them so."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
