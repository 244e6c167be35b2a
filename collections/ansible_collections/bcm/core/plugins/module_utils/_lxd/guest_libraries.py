# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What programs that run in instances import of the folder _guest, there the package ``bcm_guest``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .. import _guest
from .._base.errors import BcmError

_FOLDER = Path(_guest.__path__[0])
# up to the end of the line, or of the parentheses
_IMPORT = re.compile(r"^[ \t]*(?:from|import)[ \t]+(?:bcm_guest\b|\.)[^\n(]*(?:\([^)]*\))?", re.MULTILINE)
_NAME = re.compile(r"\w+")


def libraries_of(programs: Iterable[Path]) -> dict[str, Path]:
    """The files of the libraries that programs import, and of those that these import, by their names.

    Raises BcmError for a program that cannot be read.
    """
    found: dict[str, Path] = {}
    ahead = [source_of(program) for program in programs]
    while ahead:
        names = {name for line in _IMPORT.findall(ahead.pop()) for name in _NAME.findall(line)}
        new = {name: path for name in names - found.keys() if (path := _FOLDER / f"{name}.py").is_file()}
        found |= new
        ahead += map(source_of, new.values())
    return dict(sorted(found.items()))


def source_of(program: Path) -> str:
    """The text of a program. Raises BcmError."""
    try:
        return program.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BcmError(
            f"Program {program}",
            f"cannot be read: {error}",
            remedy="correct the path, or write the program",
            code="io_error",
        ) from error
