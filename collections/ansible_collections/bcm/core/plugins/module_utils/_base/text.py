# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for people: durations, sizes, tables, reports, and foreign text made harmless for a terminal."""

from __future__ import annotations

import json
import typing as t


def harmless(text: str) -> str:
    """Return foreign text as one harmless line.

    Characters that are not printable (escape sequences, line breaks, marks that change the direction of writing) are
    shown as escapes of Python, so that a terminal only prints them.
    """
    text = text.expandtabs(4)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(text: str) -> str:
    """Return a message as harmless lines, all but the first indented, so that none imitates another message."""
    first, *more = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return "\n".join([harmless(first), *(f"    {harmless(line)}" for line in more)])


def json_text(value: t.Any) -> str:
    """Return JSON that is safe on a terminal: in ASCII, without DEL, which JSON does not escape."""
    return json.dumps(value, indent=2).replace("\x7f", "\\u007f")


def duration(seconds: float) -> str:
    """Minutes and seconds, as a clock shows them: 3:07, 1:02:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(size: float) -> str:
    """Return bytes as a rounded figure; an empty text for 0."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB" if size else ""


def cell(value: t.Any) -> str:
    """Return a value as a few words, without brackets and quotes."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, t.Mapping):
        return ", ".join(f"{harmless(str(key))} {cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(item) for item in value) or "-"
    return harmless(str(value))


def table(rows: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Rows of equal keys, as lines of a table with those keys above."""
    if not rows:
        return []
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        [harmless(str(column)) for column in columns],
        *([cell(row.get(column)) for column in columns] for row in rows),
    ]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    padded = ([text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines)
    return ["  ".join(texts).rstrip() for texts in padded]


def report(facts: t.Mapping[str, t.Any]) -> list[str]:
    """A mapping as lines: what is a list of mappings, or a mapping of them, becomes a table.

    Mappings in its rows become tables of their own, whose rows begin with the first column of the row they come from.
    """
    plain = {harmless(str(key)): value for key, value in facts.items() if not _rows(value)}
    width = max((len(key) for key in plain), default=0)
    lines = [f"{key.replace('_', ' ').ljust(width)}  {cell(value)}" for key, value in plain.items()]
    for value in facts.values():
        for rows in _tables(_rows(value)):
            lines += ["", *table(rows)]
    return lines


def _tables(rows: list[dict[str, t.Any]]) -> t.Iterator[list[dict[str, t.Any]]]:
    inner: dict[str, list[dict[str, t.Any]]] = {}
    for row in rows:
        first, *_others = row
        for key, value in row.items():
            found = _rows(value) or ([dict(value)] if isinstance(value, t.Mapping) and value else [])
            inner.setdefault(key, []).extend({first: row[first], **item} for item in found)
    apart = [key for key, found in inner.items() if found]
    if rows:
        yield [{key: value for key, value in row.items() if key not in apart} for row in rows]
    yield from (inner[key] for key in apart)


def _rows(value: t.Any) -> list[dict[str, t.Any]]:
    if isinstance(value, t.Mapping) and value and all(isinstance(item, t.Mapping) for item in value.values()):
        return [{"name": name, **item} for name, item in value.items()]
    if isinstance(value, list) and all(isinstance(item, t.Mapping) for item in value):
        return [dict(item) for item in value if item]
    return []
