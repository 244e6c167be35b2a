# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a YAML file may hold, said once: a type reads a field, and describes itself as JSON Schema (2020-12)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from . import names
from .fields import (
    FOLDER,
    ROLE_FILE,
    SIZE,
    USER,
    VARIABLE,
    Field,
)

JsonSchema = dict[str, Any]


class Type(Protocol):
    """What a field may hold."""

    def read(self, field: Field) -> Any:
        """The value of a field. Raises CatalogueError, which names the field and the remedy."""

    def schema(self) -> JsonSchema:
        """The same as JSON Schema: it refuses nothing that `read` takes."""


def _whole(pattern: re.Pattern[str]) -> str:
    return f"^(?:{pattern.pattern})$"


@dataclass(frozen=True)
class Text:
    """Some text on one line."""

    pattern: re.Pattern[str] | None = None
    remedy: str = ""
    read_text: Callable[[Field], str] = Field.text

    def read(self, field: Field) -> str:
        return field.match(self.pattern, self.remedy) if self.remedy and self.pattern else self.read_text(field)

    def schema(self) -> JsonSchema:
        return {"type": "string", "pattern": _whole(self.pattern) if self.pattern else r"\S"}


SIZE_TEXT = Text(SIZE, read_text=Field.size)
USER_NAME = Text(USER, read_text=Field.user)
FOLDER_PATH = Text(FOLDER, read_text=Field.folder)
VARIABLE_NAME = Text(VARIABLE, read_text=Field.variable)
VERSION = Text(read_text=Field.version)
#: the name of a service, a volume, a secret
PART = Text(names.PART, read_text=Field.part)
ROLE_FILE_PATH = Text(ROLE_FILE, "write a file of the role, such as files/icon.svg")


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    known: tuple[str, ...]

    def read(self, field: Field) -> str:
        return field.choice(self.known)

    def schema(self) -> JsonSchema:
        return {"enum": list(self.known)}


@dataclass(frozen=True)
class Flag:
    """True or false."""

    def read(self, field: Field) -> bool:
        return field.flag()

    def schema(self) -> JsonSchema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Number:
    """A whole number within limits."""

    least: int
    most: int
    what: str = "a whole number"

    def read(self, field: Field) -> int:
        return field.number(self.least, self.most, self.what)

    def schema(self) -> JsonSchema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


PORT = Number(1, 65535, "a port, a whole number")


@dataclass(frozen=True)
class Anything:
    """A mapping whose meaning is another's."""

    def read(self, field: Field) -> dict[str, Any]:
        return field.plain()

    def schema(self) -> JsonSchema:
        return {"type": "object"}


@dataclass(frozen=True)
class ListOf:
    """A list of one type."""

    item: Type
    least: int = 0
    repeated: bool = False
    build: Callable[[Field, tuple[Any, ...]], Any] = lambda _field, values: values

    def read(self, field: Field) -> Any:
        return self.build(field, tuple(self.item.read(entry) for entry in field.items(self.least, self.repeated)))

    def schema(self) -> JsonSchema:
        found: JsonSchema = {"type": "array", "items": self.item.schema()}
        found |= {"minItems": self.least} if self.least else {}
        return found if self.repeated else {**found, "uniqueItems": True}


@dataclass(frozen=True)
class MapOf:
    """A mapping with keys of a person's own."""

    value: Type
    key: Text | None = None
    least: int = 0
    empty: tuple[str, str] = ("is empty", "add an entry")  # fault and remedy
    build: Callable[[Field, dict[str, Any]], Any] = lambda _field, values: values

    def read(self, field: Field) -> Any:
        entries = field.entries()
        if len(entries) < self.least:
            field.wrong(*self.empty)
        for key, entry in entries.items() if self.key is not None else ():
            fault = names.part_fault(key)
            if fault:
                entry.wrong("cannot be called that", fault)
        return self.build(field, {key: self.value.read(entry) for key, entry in entries.items()})

    def schema(self) -> JsonSchema:
        found: JsonSchema = {"type": "object", "additionalProperties": self.value.schema()}
        found |= {"propertyNames": self.key.schema()} if self.key else {}
        return {**found, "minProperties": self.least} if self.least else found


@dataclass(frozen=True)
class Key:
    """One field of a mapping."""

    type: Type
    description: str
    required: bool = False


@dataclass(frozen=True)
class Record:
    """A mapping with known fields; ``build`` makes the value of what they hold, and sees what no type can see."""

    keys: Mapping[str, Key]
    build: Callable[[Field, dict[str, Any]], Any] = lambda _field, values: values
    more: Mapping[str, Any] = field(default_factory=dict)  # of its JSON Schema

    @property
    def required(self) -> tuple[str, ...]:
        return tuple(name for name, key in self.keys.items() if key.required)

    def read(self, field: Field) -> Any:
        entries = field.mapping(self.required, [name for name, key in self.keys.items() if not key.required])
        return self.build(field, {name: self.keys[name].type.read(entry) for name, entry in entries.items()})

    def schema(self) -> JsonSchema:
        return {
            "type": "object",
            "properties": {
                name: {**key.type.schema(), "description": key.description} for name, key in self.keys.items()
            },
            "additionalProperties": False,
            **({"required": list(self.required)} if self.required else {}),
            **self.more,
        }


@dataclass(frozen=True)
class Either:
    """A mapping, or the short form for what is usual."""

    short: Type
    mapping: Type

    def read(self, field: Field) -> Any:
        return (self.mapping if isinstance(field.value, dict) else self.short).read(field)

    def schema(self) -> JsonSchema:
        return {"anyOf": [self.short.schema(), self.mapping.schema()]}


@dataclass(frozen=True)
class With:
    """A mapping of one type if it has a field, else of another type."""

    name: str
    having: Type
    lacking: Type

    def read(self, field: Field) -> Any:
        has = isinstance(field.value, dict) and self.name in field.value
        return (self.having if has else self.lacking).read(field)

    def schema(self) -> JsonSchema:
        return {"anyOf": [self.having.schema(), self.lacking.schema()]}


@dataclass(frozen=True)
class Kinds:
    """A mapping whose field ``kind`` says which fields it has."""

    kinds: Mapping[str, Record]

    def read(self, field: Field) -> Any:
        kind = field.entries().get("kind", field.sub("kind", None)).choice(self.kinds)
        return self.kinds[kind].read(field)

    def schema(self) -> JsonSchema:
        return {
            "type": "object",
            "required": ["kind"],
            "properties": {"kind": {"enum": list(self.kinds)}},
            "allOf": [
                {"if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]}, "then": record.schema()}
                for kind, record in self.kinds.items()
            ],
        }


def fields_of(found: Type, path: str = "") -> dict[str, Key]:
    """All fields of a type by their paths, in the order in which they are declared: for a reference.

    ``*`` stands for a name of a person's own, or an entry of a list. What only some of several mappings need is not
    required.
    """
    if isinstance(found, Record):
        fields: dict[str, Key] = {}
        for name, key in found.keys.items():
            here = f"{path}.{name}" if path else name
            fields |= {here: key, **fields_of(key.type, here)}
        return fields
    if isinstance(found, (ListOf, MapOf)):
        return fields_of(found.item if isinstance(found, ListOf) else found.value, f"{path}.*")
    if isinstance(found, Kinds):
        return _merged([fields_of(record, path) for record in found.kinds.values()])
    if isinstance(found, Either):
        return _merged([fields_of(found.mapping, path)])
    if isinstance(found, With):
        return _merged([fields_of(found.lacking, path), fields_of(found.having, path)])
    return {}


def _merged(several: list[dict[str, Key]]) -> dict[str, Key]:
    merged: dict[str, Key] = {}
    for fields in several:
        for path, key in fields.items():
            always = all(path in other and other[path].required for other in several)
            merged.setdefault(path, replace(key, required=always))
    return merged
