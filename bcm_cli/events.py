# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm events`: the topics of the stack kafka, and their events."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program

from .connect import connect
from .datacenter import DataCenter, UsageError
from .output import answer, say
from .stacks import catalogue
from .status import deployed

STACK = "kafka"
_PROGRAM = Path("scripts/events.py")
_DEADLINE = 120.0
_TOPIC = {"events": int, "last_hour": int, "newest": (str, None)}
_READ = {"topics": [str], "kept": int, "events": [dict], "position": int}

Schema = Mapping[str, Any]


def list_topics(args: argparse.Namespace) -> int:
    """List the topics, how many events they have, and how many were written in the last hour."""
    with connect(args.datacenter) as client:
        topics = ask(args.datacenter, client, {"verb": "list"}, {"topics": {str: _TOPIC}})["topics"]
    known = schemas(args.datacenter)
    rows = [
        {
            "topic": name,
            "events": topic["events"],
            "last hour": topic["last_hour"],
            "newest": topic["newest"],
            "schema": known[name][-1].get("doc") if name in known else None,
        }
        for name, topic in sorted(topics.items())
    ]
    return answer(rows, args.json)


def show(args: argparse.Namespace) -> int:
    """Show the fields of the events of a topic; in JSON, their Avro schema, which includes the envelope."""
    known = schemas(args.datacenter)
    if args.topic not in known:
        raise UsageError.of(names.unknown("topic with a schema", args.topic, known))
    schema = known[args.topic][-1]
    rows = [
        {"field": ".".join(path), "type": _type(field["type"]), "what it is": field.get("doc")}
        for path, field in fields(schema)
    ]
    return answer(schema if args.json else rows, args.json)


def tail(args: argparse.Namespace) -> int:
    """Print events, each on a line."""
    datacenter: DataCenter = args.datacenter
    if args.newest < 0:
        raise UsageError(f"--newest is {args.newest}, which is no number of events.")
    known = schemas(datacenter).get(args.topic, ())
    position: int | None = None
    missing = args.newest
    with connect(datacenter) as client:
        while True:
            request = {
                "verb": "read",
                "topic": args.topic,
                "position": position,
                "newest": args.newest,
                "waits": not args.stop,
                "schemas": known,
            }
            found = ask(datacenter, client, request, _READ)
            if args.topic not in found["topics"]:
                raise UsageError.of(names.unknown("topic", args.topic, found["topics"]))
            if position is None:
                missing = min(missing, found["kept"])
            for event in found["events"][: missing if args.stop else None]:
                say(json.dumps(event) if args.json else describe(event))
            sys.stdout.flush()
            missing -= len(found["events"])
            position = found["position"]
            if args.stop and (missing <= 0 or not found["events"]):
                return 0


def describe(event: Mapping[str, Any]) -> str:
    """An event on a line for people: when it happened, and what."""
    told = {key: value for key, value in event.items() if key != "event"}
    words = [f"{key}={value}" for key, value in told.items()]
    return " ".join([event["event"]["time"], *words] if "event" in event else words)


def schemas(datacenter: DataCenter) -> dict[str, Sequence[Schema]]:
    """Return the Avro schemas of all topics that have some, the newest last."""
    known = catalogue(datacenter)
    each = [known.logs(known), *(stack.events for stack in known.values())]
    return {topic: schemas for found in each for topic, schemas in found.items()}


def ask(datacenter: DataCenter, client: Client, request: Mapping[str, Any], shape: Any) -> dict[str, Any]:
    """Ask the broker. Raises BcmError."""
    if STACK not in deployed(client):
        raise BcmError(
            f"Data center {datacenter.name}",
            "has no events",
            "type `bcm stack start kafka`, which brings them",
            code="not_ready",
        )
    program = catalogue(datacenter)[STACK].role_path / _PROGRAM
    return ask_program(client, STACK, program, request, shape=shape, deadline=_DEADLINE)


def fields(schema: Schema, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Schema]]:
    """The fields of a record, and of records in it: the names that lead to each, and its schema."""
    for field in schema["fields"]:
        kind, path = field["type"], (*above, field["name"])
        if isinstance(kind, dict) and kind.get("type") == "record":
            yield from fields(kind, path)
        else:
            yield path, field


def _type(kind: Any) -> str:
    if isinstance(kind, list):
        return " or ".join(map(_type, kind))
    if not isinstance(kind, dict):
        return str(kind)
    return " or ".join(kind["symbols"]) if "symbols" in kind else str(kind.get("logicalType", kind["type"]))
