# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events of a stack: ``events/NAME.VERSION.avsc`` of its role are the versions of the Avro schema of one of them."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._base import names
from .._base.fields import CatalogueError

#: what every event begins with, which the schemas name
ENVELOPE = "bcm.Envelope"
#: what the topic of a journal is called: STACK.log
LOG = "log"
_COMMON = Path(__file__).resolve().parents[3] / "roles/_common/events"
_FILE = re.compile(r"([a-z][a-z0-9_]{0,62})\.([1-9][0-9]{0,3})\.avsc")

#: Avro schema, as JSON
Schema = Mapping[str, Any]


def read(folder: Path, stack: str) -> dict[str, tuple[Schema, ...]]:
    """The schemas of each topic of a role, which is ``STACK.NAME``, the newest last. Raises CatalogueError.

    Each is complete: the envelope is part of it.
    """
    versions: dict[str, dict[int, Schema]] = {}
    for path in sorted(folder.glob("events/*")):
        name, version, schema = _read_file(path)
        if name == LOG:
            raise CatalogueError(f"{path}:", f"{stack}.{LOG} has what is in the journal", "call the event otherwise")
        wanted = {"type": "record", "namespace": f"bcm.{names.variable_prefix(stack)}", "name": name}
        for key, value in wanted.items():
            if schema.get(key) != value:
                raise CatalogueError(f"{path}:", f"{key} is {schema.get(key)}", f"write {value}")
        fields = schema.get("fields")
        if not isinstance(fields, list) or not fields or fields[0] != {"name": "event", "type": ENVELOPE}:
            raise CatalogueError(
                f"{path}:", "the first field is not the envelope", f'write {{"name": "event", "type": "{ENVELOPE}"}}'
            )
        versions.setdefault(f"{stack}.{name}", {})[version] = schema
    return {topic: _complete(of_topic) for topic, of_topic in versions.items()}


@functools.cache
def read_logs() -> tuple[Schema, ...]:
    """The schemas of what is in the journal of an instance, as ``read`` has those of a topic."""
    return _complete({version: schema for _name, version, schema in map(_read_file, _COMMON.glob(f"{LOG}.*"))})


def _complete(versions: Mapping[int, Schema]) -> tuple[Schema, ...]:
    """All that events of a topic may have been written with: each version with each version of the envelope."""
    envelopes = {version: schema for _name, version, schema in map(_read_file, _COMMON.glob("envelope.*"))}
    return tuple(
        {**schema, "fields": [{"name": "event", "type": envelope}, *schema["fields"][1:]]}
        for _version, schema in sorted(versions.items())
        for _version, envelope in sorted(envelopes.items())
    )


def _read_file(path: Path) -> tuple[str, int, Schema]:
    """The name, the version and the schema of a file. Raises CatalogueError."""
    match = _FILE.fullmatch(path.name)
    if match is None:
        raise CatalogueError(f"{path}:", "is not called as a schema", "rename it, such as order.1.avsc")
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CatalogueError(f"{path}:", f"cannot be read: {error.strerror}", code="io_error") from error
    except (ValueError, RecursionError) as error:
        raise CatalogueError(f"{path}:", f"is not valid JSON: {error}") from error
    if not isinstance(schema, dict):
        raise CatalogueError(f"{path}:", "is not a schema of a record", "write what an event has as an Avro record")
    return match[1], int(match[2]), schema
