# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kafka as its administrator, in its instance: ``bcm_guest.kafka``; and what the stacks that use it may do there."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
import struct
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .prove import Fault, Lasting

#: the administrator; and who writes and reads for verify, and its topic and group. No stack can have these names.
ADMIN, PROBE = "bcm_admin", "bcm_probe"
#: who reads all topics for `bcm events`
READER = "bcm_reader"
#: what the names of programs elsewhere begin with; no stack can have such a name
CLIENT = "client_"
#: where the instance itself reaches the broker
PLACE = "127.0.0.1:9094"
#: for topics that do not say how long their events are kept
DAYS, SIZE = 7, "64MiB"
#: what the topics of journals end with, and how long these are kept
LOG, LOG_DAYS, LOG_SIZE = ".log", 3, "8MiB"
#: a program that ends after a second is not worth the second compiler, which took half of its processor time
_JAVA = ("java", "-Xmx64m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-cp", "/opt/kafka/*")
_LOG = "-Dlog4j2.configurationFile=/etc/kafka/log4j2.properties"
_ACL = "org.apache.kafka.tools.AclCommand"
_TIMEOUT = 120
_DAY = 24 * 3600 * 1000
_UNITS = {"MiB": 1024**2, "GiB": 1024**3}
_SIZE = re.compile(r"([1-9][0-9]*)(MiB|GiB)")
#: Kafka refuses shorter files
_SMALLEST_FILE = 1024**2
#: Kafka's calls and their versions (https://kafka.apache.org/protocol)
_HANDSHAKE, _AUTHENTICATE, _DESCRIBE_ACLS = (17, 1), (36, 0), (29, 1)
#: of resource, name, pattern, user, host, operation and permission
_ANY_RIGHT = struct.pack("!bhbhhbb", 1, -1, 1, -1, -1, 1, 1)
#: Kafka's numbers; of patterns, what a name ends with here
_KINDS, _OPERATIONS, _PATTERNS, _ALLOW = {2: "TOPIC", 3: "GROUP"}, {3: "READ", 4: "WRITE"}, {3: "", 4: "*"}, 3


@dataclass(frozen=True, order=True)
class Right:
    """What a user may do with one topic or group: READ or WRITE. A name may end with * for all that begin so."""

    user: str
    operation: str
    kind: str  # TOPIC or GROUP
    name: str


@dataclass(frozen=True)
class Topic:
    """How long the events of a topic are kept: whichever comes first."""

    days: int
    size: int  # bytes

    @property
    def config(self) -> dict[str, str]:
        """As Kafka's options. Files are deleted as a whole, so several of them make up the size."""
        return {
            "retention.ms": str(self.days * _DAY),
            "retention.bytes": str(self.size),
            "segment.bytes": str(max(_SMALLEST_FILE, self.size // 4)),
        }


@dataclass(frozen=True)
class Declared:
    """The topics that stacks write, and who may do what; among them those of verify.

    What is wrong about a stack, or a setting, is one of the ``faults``, and left out, so that all others go on.
    """

    topics: Mapping[str, Topic]
    rights: frozenset[Right]
    faults: tuple[str, ...] = ()


def read_declared(declared: Mapping[str, Any]) -> Declared:
    """What ``consumers`` say of their topics, with the ``retention`` of the inventory over it.

    ``events`` has the topics of each for which there are schemas, ``clients`` what programs elsewhere read. ``drop``
    names topics to delete.
    """
    topics = {PROBE: Topic(1, 4 * _SMALLEST_FILE)}
    rights = set(_rights(PROBE, [PROBE], [PROBE]))
    faults = []
    for stack, permissions in sorted(declared["consumers"].items()):
        try:
            own, reads = _of_stack(stack, permissions)
            # From the newest of its events, a stack knows where it has to go on.
            events = declared["events"].get(stack, [])
            own, reads = {**dict.fromkeys(events, {}), **own}, [*reads, *events]
            kept = {name: _topic(name, {**of, **declared["retention"].get(name, {})}) for name, of in own.items()}
        except ValueError as error:
            faults.append(f"stack {stack} {error}")
            continue
        topics.update(kept)
        rights.update(_rights(stack, own, reads))
    rights.update(_rights(READER, [], sorted(set(topics) - {PROBE})))
    for client, reads in declared["clients"].items():
        rights.update(_rights(f"{CLIENT}{client}", [], reads))
    if unknown := sorted(set(declared["retention"]) - set(topics)):
        faults.append(f"kafka_retention names {', '.join(unknown)}, which no stack writes: correct it")
    if wrong := sorted(set(declared["drop"]) & set(topics)):
        faults.append(f"kafka_drop names {', '.join(wrong)}, which a stack writes: leave it out")
    return Declared(topics, frozenset(rights), tuple(faults))


def _of_stack(stack: str, permissions: Any) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The topics that a stack writes, with what it says of each, and those that it reads. Raises ValueError."""
    permissions = permissions or {}
    if not isinstance(permissions, dict) or set(permissions) - {"topics", "reads"}:
        raise ValueError("asks for something else than topics and reads")
    own, reads = permissions.get("topics", {}), permissions.get("reads", [])
    if not isinstance(own, dict) or not isinstance(reads, list) or not all(isinstance(name, str) for name in reads):
        raise ValueError("has topics that are no mapping, or reads that are no list of names")
    for name in [*own, *reads]:
        if not re.fullmatch(r"[a-z][a-z0-9-]*\.[a-z0-9_.-]{1,100}", name):
            raise ValueError(f'names "{name}", which is no topic as {stack}.event')
    if foreign := [name for name in own if name.partition(".")[0] != stack]:
        raise ValueError(f"writes {', '.join(foreign)}: its topics begin with {stack}.")
    for name, kept in own.items():
        if not isinstance(kept or {}, dict) or set(kept or {}) - {"days", "size"}:
            raise ValueError(f"says something else of {name} than days and size")
    return {name: kept or {} for name, kept in own.items()}, reads


def _topic(name: str, kept: Mapping[str, Any]) -> Topic:
    """Raises ValueError."""
    default = (LOG_DAYS, LOG_SIZE) if name.endswith(LOG) else (DAYS, SIZE)
    days, size = kept.get("days", default[0]), _SIZE.fullmatch(str(kept.get("size", default[1])))
    if not isinstance(days, int) or isinstance(days, bool) or days < 1 or size is None:
        raise ValueError(f"keeps {name} for no whole number of days, or no size as {SIZE}")
    return Topic(days, int(size[1]) * _UNITS[size[2]])


def _rights(user: str, writes: Iterable[str], reads: Iterable[str]) -> Iterable[Right]:
    yield from (Right(user, "WRITE", "TOPIC", name) for name in writes)
    if topics := sorted(reads):
        yield from (Right(user, "READ", "TOPIC", name) for name in topics)
        # its place in what it reads
        yield Right(user, "READ", "GROUP", user)


def ask_rights(place: str, password: str) -> frozenset[Right]:
    """The rights that Kafka at ADDRESS:PORT enforces. Raises Fault.

    Debian's client has no such call, and Kafka's own program takes seconds of the processor to start.
    """
    address, _colon, port = place.rpartition(":")
    try:
        with socket.create_connection((address, int(port)), _TIMEOUT) as connection:
            _ask(connection, _HANDSHAKE, _text("PLAIN"))
            login_as = f"\0{ADMIN}\0{password}".encode()
            refused = _ask(connection, _AUTHENTICATE, struct.pack("!i", len(login_as)) + login_as).number(2)
            if refused:
                raise Fault(f"Kafka refuses its administrator: error {refused}")
            return read_rights(_ask(connection, _DESCRIBE_ACLS, _ANY_RIGHT))
    except OSError as error:
        raise Fault(f"Kafka does not say what is allowed: {error}") from error


class Answer:
    """An answer of Kafka, from its first field on; numbers are big endian, texts begin with their length."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def number(self, size: int) -> int:
        return int.from_bytes(self._stream.read(size), "big", signed=True)

    def text(self) -> str:
        return self._stream.read(max(0, self.number(2))).decode()


def read_rights(answer: Answer) -> frozenset[Right]:
    """The rights in an answer (DescribeAcls). Raises Fault; Lasting if it has one of another form."""
    _throttled, error, message = answer.number(4), answer.number(2), answer.text()
    if error:
        raise Fault(f"Kafka does not say what is allowed: {message or error}")
    found = set()
    for _resource in range(answer.number(4)):
        kind, name, pattern = answer.number(1), answer.text(), answer.number(1)
        for _right in range(answer.number(4)):
            principal, host, operation, permission = answer.text(), answer.text(), answer.number(1), answer.number(1)
            is_ours = kind in _KINDS and pattern in _PATTERNS and operation in _OPERATIONS
            if not (is_ours and principal.startswith("User:") and host == "*" and permission == _ALLOW):
                raise Lasting(
                    f"there is a right that no run has made: {principal} from {host} to {name}"
                    f" (operation {operation}, resource {kind}, pattern {pattern}, permission {permission})"
                )
            user = principal.removeprefix("User:")
            found.add(Right(user, _OPERATIONS[operation], _KINDS[kind], name + _PATTERNS[pattern]))
    return frozenset(found)


def _ask(connection: socket.socket, call: tuple[int, int], body: bytes) -> Answer:
    """What Kafka answers a call. Raises OSError."""
    request = struct.pack("!hhi", *call, 0) + _text("bcm") + body
    connection.sendall(struct.pack("!i", len(request)) + request)
    with connection.makefile("rb") as stream:
        size = int.from_bytes(stream.read(4), "big")
        content = stream.read(size)
    if not size or len(content) < size:
        raise ConnectionError("it ended the connection")
    answer = Answer(content)
    answer.number(4)  # that of the request
    return answer


def _text(text: str) -> bytes:
    return struct.pack("!h", len(text)) + text.encode()


def change_rights(place: str, rights: Iterable[Right], how: str) -> None:
    """Add (--add) or remove (--remove) rights. Raises Fault."""
    # Java takes seconds for each call.
    calls: dict[tuple[str, str, str], list[str]] = {}
    for right in sorted(rights):
        pattern = "prefixed" if right.name.endswith("*") else "literal"
        names = calls.setdefault((right.user, right.operation, pattern), [])
        names.extend((f"--{right.kind.lower()}", right.name.removesuffix("*")))
    for (user, operation, pattern), names in calls.items():
        who = ("--allow-principal", f"User:{user}", "--operation", operation, "--resource-pattern-type", pattern)
        _administer(place, how, "--force", *who, *names)


def _administer(place: str, *arguments: str) -> str:
    return run_java(_ACL, "--bootstrap-server", place, "--command-config", "/etc/kafka/admin.properties", *arguments)


def run_java(program: str, *arguments: str) -> str:
    """What a program of Kafka prints. Raises Fault with what it says if it fails."""
    command = [*_JAVA, _LOG, program, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise Fault(f"{program} has not ended within {_TIMEOUT} s") from error
    if done.returncode:
        raise Fault(" ".join((done.stderr or done.stdout).split())[-300:] or f"{program} ended with {done.returncode}")
    return done.stdout


def client_login(client: str, secret: str) -> tuple[str, str]:
    """The user of a program elsewhere, and its password, which is made of the secret of the stack."""
    return f"{CLIENT}{client}", hashlib.sha256(f"{secret}/{client}".encode()).hexdigest()


def read_password(user: str) -> str:
    """The password of one of the users that the instance itself has. Raises Fault."""
    try:
        passwords: dict[str, str] = json.loads(Path("/etc/kafka/passwords.json").read_text(encoding="utf-8"))
        return passwords[user]
    except (OSError, ValueError, KeyError) as error:
        raise Fault(f"the password of {user} cannot be read: {error!r}") from error


def login(place: str, user: str, password: str) -> dict[str, object]:
    """Options of Debian's client for a user in this instance. The password is not among what it logs."""
    return {
        "bootstrap.servers": place,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": password,
        "log_level": 2,
    }
