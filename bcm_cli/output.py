# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers on standard output: for people, or in JSON for programs. Control characters are shown as escapes."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from ansible_collections.bcm.core.plugins.module_utils._base.text import harmless, json_text, report, shown, table


def answer(facts: Mapping[str, Any] | Sequence[Mapping[str, Any]], as_json: bool) -> int:
    """Print a mapping, or rows of a table; the exit status."""
    if as_json:
        print(json_text(facts))
    else:
        for line in report(facts) if isinstance(facts, Mapping) else table(facts) or ["none"]:
            print(line)
    return 0


def say(text: str = "") -> None:
    """Print a line; if foreign text made it several, indent the others."""
    print(shown(text))


def draw(what: str, text: str) -> None:
    """Print a text as a QR code, below a title, on a terminal that has room for it."""
    from ansible_collections.bcm.core.plugins.module_utils._base import qr

    made = qr.code(text)
    if sys.stdout.isatty() and qr.fits(made):
        print("\n".join(["", f"{what}:", *qr.drawn(made)]))


class Lines:
    """Converts output of an instance, piece by piece, into lines without control characters, joined by ``end``."""

    def __init__(self, end: str = "\n") -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._end = end
        self._held = ""

    def __call__(self, data: bytes) -> bytes:
        text = self._held + self._decoder.decode(data)
        self._held = "\r" if text.endswith("\r") else ""  # it may be half of a line ending
        lines = text[: len(text) - len(self._held)].replace("\r\n", "\n").split("\n")
        return self._end.join(map(harmless, lines)).encode()


class _Sink(io.RawIOBase):
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = Lines()

    def write(self, data: Any, /) -> int:
        self._stream.buffer.write(self._lines(bytes(data)))
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


def sink(stream: TextIO, *, as_text: bool = False) -> Any:
    """Return the sink for output of a program: ``stream`` unchanged, unless people read it there."""
    return _Sink(stream) if as_text or stream.isatty() else stream.buffer
