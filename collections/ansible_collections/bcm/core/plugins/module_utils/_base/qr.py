# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QR codes on a terminal and on pages, for cameras."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

try:
    import segno
except ImportError:  # the sanity tests import this file without the libraries
    pass

if TYPE_CHECKING:
    from segno import QRCode

#: light modules around a QR code, by ISO/IEC 18004
_QUIET = 4
#: upper and lower half of a character, dark or not
_HALVES = {(0, 0): " ", (1, 0): "▀", (0, 1): "▄", (1, 1): "█"}
# Black on white, whatever the terminal has: not every camera reads the opposite.
_INK, _PLAIN = "\033[30;107m", "\033[0m"


def code(text: str) -> QRCode:
    """Return the smallest QR code, since terminals are small."""
    return segno.make(text, error="l", boost_error=False, micro=False)


def drawn(made: QRCode) -> list[str]:
    """Its lines, of characters that are two modules high."""
    modules = [list(map(bool, row)) for row in made.matrix_iter(border=_QUIET)]
    modules += [[False] * len(modules[0])] * (len(modules) % 2)
    pairs = zip(modules[::2], modules[1::2], strict=True)
    return [f"{_INK}{''.join(_HALVES[pair] for pair in zip(*rows, strict=True))}{_PLAIN}" for rows in pairs]


def svg_path(made: QRCode) -> dict[str, Any]:
    """Its width with the light border (``size``), and its dark modules as the path of an SVG (``path``)."""
    path = []
    rows = [list(map(bool, row)) for row in made.matrix_iter(border=_QUIET)]
    for top, row in enumerate(rows):
        begin = 0
        for left, is_dark in enumerate([*row, False]):
            if not is_dark:
                if left > begin:
                    path.append(f"M{begin} {top}h{left - begin}v1h-{left - begin}z")
                begin = left + 1
    return {"size": len(rows), "path": "".join(path)}


def size(made: QRCode) -> tuple[int, int]:
    """Columns and lines that it needs, with a line above that says what it is and two around it."""
    columns, height = made.symbol_size(border=_QUIET)
    return int(columns), int(height) // 2 + 3


def fits(made: QRCode) -> bool:
    room, (columns, lines) = shutil.get_terminal_size(), size(made)
    return columns <= room.columns and lines <= room.lines
