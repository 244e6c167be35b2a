# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fields of a stack.yml, each with its position, so that errors name file and field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from . import names, versions
from .errors import BcmError
from .read import is_integer

_UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SIZE = re.compile(r"([1-9][0-9]{0,8}) ?(MiB|GiB|TiB)")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
FOLDER = re.compile(r"(/[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}){1,16}")
_SHOWN = 80
VARIABLE = re.compile(r"[a-z_][a-z0-9_]*")
ROLE_FILE = re.compile(r"files/(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*")  # an image is named by what is there


class CatalogueError(BcmError):
    """An invalid stack.yml."""

    code = "invalid_definition"


def size_in_bytes(size: str) -> int:
    """Return the bytes of a size as in stack.yml and variables ("80GiB"). Raises BcmError for anything else."""
    match = SIZE.fullmatch(size)
    if match is None:
        raise BcmError(
            f'"{size[:_SHOWN]}"',
            "is not a size",
            "write a whole number with MiB, GiB or TiB, such as 2GiB",
            code="invalid_value",
        )
    return int(match[1]) * _UNITS[match[2]]


class Field:
    """A value of a stack.yml that knows its place, so that every message names file and field."""

    def __init__(self, source: Path, path: str, value: Any) -> None:
        self.source = source
        self.path = path
        self.value = value

    @property
    def shown(self) -> str:
        try:
            text = str(self.value)
        except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in a list
            return "something too large to be shown"
        text = text if text.isprintable() else ascii(text)[1:-1]
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        return f'"{text}"' if isinstance(self.value, str) else text

    def wrong(self, fault: str, remedy: str) -> NoReturn:
        raise CatalogueError(f"{self.source}:", f"{self.path or 'the file'} {fault}", remedy)

    def sub(self, key: str, value: Any) -> Field:
        return Field(self.source, f"{self.path}.{key}" if self.path else key, value)

    def mapping(self, required: Sequence[str] = (), optional: Sequence[str] = ()) -> dict[str, Field]:
        fields = self.entries()
        known = (*required, *optional)
        for key, field in fields.items():
            if key not in known:
                unknown = CatalogueError.of(names.unknown("field", key, known))
                raise unknown.within(f"{self.source}: {field.path}")
        for key in required:
            if key not in fields:
                self.sub(key, None).wrong("is missing", "add it (docs/stacks.md says what goes there)")
        return fields

    def plain(self) -> dict[str, Any]:
        return {key: field.value for key, field in self.entries().items()}

    def entries(self) -> dict[str, Field]:
        if not isinstance(self.value, dict):
            self.wrong("is not a mapping", "write it as `key: value` lines")
        return {str(key): self.sub(str(key), value) for key, value in self.value.items()}

    def items(self, least: int = 0, repeated: bool = False) -> list[Field]:
        if not isinstance(self.value, list) or len(self.value) < least:
            self.wrong(f"is {self.shown}", f"write a list{' with at least one entry' if least else ''}, such as [a, b]")
        fields = [self.sub(str(index), value) for index, value in enumerate(self.value)]
        for index, field in enumerate(fields):
            if not repeated and field.value in self.value[:index]:
                field.wrong(f"is {field.shown} again", "name it once")
        return fields

    def text(self) -> str:
        """Some text on one line."""
        if not isinstance(self.value, str) or not self.value.strip() or not self.value.isprintable():
            remedy = "put it in quotes" if isinstance(self.value, (int, float)) else "write some text, on one line"
            self.wrong(f"is {self.shown}", remedy)
        return self.value

    def user(self) -> str:
        return self.match(USER, "write the name of a user, in lower-case letters and digits")

    def folder(self) -> str:
        return self.match(FOLDER, "write an absolute path, such as /var/lib/electrs")

    def choice(self, known: Iterable[str]) -> str:
        known = list(known)
        if self.value not in known:
            self.wrong(f"is {self.shown}", f"write one of {', '.join(known)}")
        return str(self.value)

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            self.wrong(f"is {self.shown}", "write true or false")
        return bool(self.value)

    def number(self, least: int, most: int, what: str = "a whole number") -> int:
        if not is_integer(self.value) or not least <= self.value <= most:
            self.wrong(f"is {self.shown}", f"write {what} from {least} to {most}")
        return self.value

    def port(self) -> int:
        return self.number(1, 65535, "a port, a whole number")

    def size(self) -> str:
        try:
            size_in_bytes(self.text())
        except CatalogueError:
            raise
        except BcmError:
            self.wrong(f"is {self.shown}", "write a whole number with MiB, GiB or TiB, such as 2GiB")
        return str(self.value)

    def variable(self) -> str:
        if not VARIABLE.fullmatch(self.text()):
            self.wrong(f"is {self.shown}", "write the name of a variable of the role")
        return str(self.value)

    def version(self) -> str:
        try:
            versions.numbers(self.text())
        except CatalogueError:
            raise
        except BcmError:
            self.wrong(f"is {self.shown}", 'write a version in quotes, such as "31.1"')
        return str(self.value)

    def part(self) -> str:
        """The name of a service, a volume or a secret."""
        fault = names.part_fault(self.text())
        if fault:
            self.wrong(f"is {self.shown}", fault)
        return str(self.value)

    def match(self, pattern: re.Pattern[str], remedy: str) -> str:
        if not pattern.fullmatch(self.text()):
            self.wrong(f"is {self.shown}", remedy)
        return str(self.value)
