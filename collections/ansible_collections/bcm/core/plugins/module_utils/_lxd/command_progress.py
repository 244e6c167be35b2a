# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The progress of a command, read from its output."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping

from .lxd_errors import LxdError, TooMuchOutput
from .streams import MOST

_END_OF_LINE = re.compile(rb"(?<=[\r\n])")
_LONGEST = 64 * 1024


class Progress(io.BytesIO):
    """An output of a command. Lines that match the pattern are reported in other words, and all others are kept.

    A carriage return ends a line, too: that is how programs write one over another.
    """

    def __init__(
        self, pattern: re.Pattern[bytes], words: bytes, notify: Callable[[str], None], most: int = MOST
    ) -> None:
        super().__init__()
        self._pattern, self._words, self._notify, self._most = pattern, words, notify, most
        self._rest = b""
        self._reported, self._count = "", 0

    @classmethod
    def both(cls, options: Mapping[str, str], notify: Callable[[str], None]) -> tuple[Progress, Progress]:
        """For standard output and standard error. ``options``: pattern and words, as `re` takes them.

        ``{count}`` in the words is the number of lines that have matched.

        Raises LxdError if they are none.
        """
        try:
            pattern, words = re.compile(options["pattern"].encode()), options["words"].encode()
            # with an empty match, it is compiled as well
            re.compile(pattern.pattern + b"|").search(b"").expand(words)  # type: ignore[union-attr]
        except (re.error, IndexError) as error:
            raise LxdError(
                "progress:", error, "write a regular expression, and words with its groups", code="invalid_value"
            ) from error
        return cls(pattern, words, notify), cls(pattern, words, notify)

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        *lines, self._rest = _END_OF_LINE.split(self._rest + piece)
        if len(self._rest) > _LONGEST:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._take(line)
        return len(piece)

    def getvalue(self) -> bytes:
        """Return what is kept, with the line that has no end yet."""
        return super().getvalue() + self._rest

    def _take(self, line: bytes) -> None:
        if match := self._pattern.search(line):
            self._count += 1
            text = match.expand(self._words).decode(errors="replace").replace("{count}", str(self._count))
            if text != self._reported:
                self._reported = text
                self._notify(text)
        elif self.tell() + len(line) > self._most:
            raise TooMuchOutput(f"wrote more than {self._most} bytes")
        else:
            super().write(line)
