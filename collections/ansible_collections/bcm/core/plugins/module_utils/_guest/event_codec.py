# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events as they are in a topic: ``bcm_guest.event_codec``, with Debian's library for Avro.

They are in Avro's single-object encoding: C3 01, the fingerprint of the schema (CRC-64-AVRO), and the event.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

try:
    import avro.errors
    import avro.io
    import avro.schema
except ImportError:  # the sanity tests import this file without the library
    pass

from .prove import Fault

_MARK = b"\xc3\x01"
_FINGERPRINT = "CRC-64-AVRO"
_HEAD = len(_MARK) + 8


class Unfit(Exception):
    """An event does not fit the schema with which it is to be written."""


class Codec:
    """Events of a topic as bytes. ``schemas`` are all with which they may have been written, the newest last."""

    def __init__(self, schemas: Sequence[Mapping[str, Any]]) -> None:
        with warnings.catch_warnings():
            # It reads and writes logical types that are not Avro's as what they are kept as.
            warnings.simplefilter("ignore", avro.errors.IgnoredLogicalType)
            parsed = [avro.schema.parse(json.dumps(schema)) for schema in schemas]
        self._schemas = {schema.fingerprint(_FINGERPRINT): schema for schema in parsed}
        self._newest = parsed[-1]
        self._head = _MARK + self._newest.fingerprint(_FINGERPRINT)
        self._writer = avro.io.DatumWriter(self._newest)

    def encode(self, event: Mapping[str, Any]) -> bytes:
        """An event in the form of the newest schema, as bytes. Raises Unfit."""
        stream = io.BytesIO()
        stream.write(self._head)
        try:
            self._writer.write(event, avro.io.BinaryEncoder(stream))
        # What it raises for a value that is not of its type is not of one class.
        except Exception as error:
            raise Unfit(f"{type(error).__name__}: {error}") from error
        return stream.getvalue()

    def decode(self, data: bytes) -> dict[str, Any]:
        """An event in the form of the newest schema. Raises Fault."""
        schema = self._schemas.get(data[len(_MARK) : _HEAD])
        if data[: len(_MARK)] != _MARK or schema is None:
            raise Fault("an event was written with a schema that is not known here")
        reader = avro.io.DatumReader(schema, self._newest)
        try:
            return dict(reader.read(avro.io.BinaryDecoder(io.BytesIO(data[_HEAD:]))))
        # What it raises for bytes that are not an event of the schema is not of one class.
        except Exception as error:
            raise Fault(f"an event does not fit its schema: {error!r}") from error
