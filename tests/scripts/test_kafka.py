# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What stacks say of their topics, and what Kafka says of rights. tests/e2e has a real broker."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._guest import kafka
from ansible_collections.bcm.core.plugins.module_utils._guest.kafka import PROBE, READER, Answer, Declared, Right
from ansible_collections.bcm.core.plugins.module_utils._guest.prove import Fault, Lasting


def text(value: str) -> bytes:
    return struct.pack("!h", len(value)) + value.encode()


def listed(
    kind: int = 2, name: str = "gazette.issue", pattern: int = 3, who: str = "User:reader", host: str = "*",
    permission: int = 3,
) -> Answer:  # fmt: skip
    """What Kafka answers of two resources; the second one has a right that a test may change."""
    group = struct.pack("!b", 3) + text("reader") + struct.pack("!bi", 3, 1)
    group += text("User:reader") + text("*") + struct.pack("!bb", 3, 3)
    topic = struct.pack("!b", kind) + text(name) + struct.pack("!bi", pattern, 2)
    topic += text("User:gazette") + text("*") + struct.pack("!bb", 4, 3)
    topic += text(who) + text(host) + struct.pack("!bb", 3, permission)
    return Answer(struct.pack("!ihhi", 0, 0, -1, 2) + group + topic)


WRITES = Right("gazette", "WRITE", "TOPIC", "gazette.issue")
READS = {Right("reader", "READ", "TOPIC", "gazette.issue"), Right("reader", "READ", "GROUP", "reader")}


def declared(
    retention: dict[str, Any] | None = None,
    drop: tuple[str, ...] = (),
    events: dict[str, list[str]] | None = None,
    clients: dict[str, list[str]] | None = None,
    **consumers: Any,
) -> Declared:
    told = {"events": events or {}, "clients": clients or {}, "retention": retention or {}, "drop": list(drop)}
    return kafka.read_declared({"consumers": consumers, **told})


def own(found: Declared) -> set[Right]:
    return {right for right in found.rights if right.user not in (PROBE, READER)}


def test_stack_writes_its_own_topics_and_reads_what_it_names() -> None:
    found = declared(gazette={"topics": {"gazette.issue": None}}, reader={"reads": ["gazette.issue"]}, idle={})
    assert own(found) == {WRITES, *READS}
    assert set(found.topics) == {"gazette.issue", PROBE}
    assert not found.faults
    assert kafka.read_rights(listed()) == own(found)


def test_events_are_kept_as_the_stack_says_unless_the_inventory_says_otherwise() -> None:
    topics = {"gazette.issue": {"days": 3, "size": "1GiB"}, "gazette.other": None}
    found = declared({"gazette.issue": {"days": 1}}, gazette={"topics": topics})
    assert found.topics["gazette.issue"].config == {
        "retention.ms": "86400000", "retention.bytes": "1073741824", "segment.bytes": "268435456"
    }  # fmt: skip
    assert found.topics["gazette.other"].config["retention.ms"] == str(7 * 86_400_000)
    assert declared(gazette={"topics": {"gazette.x": {"size": "1MiB"}}}).topics["gazette.x"].config[
        "segment.bytes"
    ] == str(1024**2)


def test_what_is_in_journals_is_kept_for_less_time_unless_the_inventory_says_otherwise() -> None:
    events = {"collector": ["lnd.log", "tor.log"]}
    found = declared({"tor.log": {"days": 30}}, events=events, collector={})
    assert {(topic.days, topic.size) for topic in found.topics.values()} >= {(3, 8 * 1024**2), (30, 8 * 1024**2)}
    assert (found.topics["lnd.log"].days, found.topics["tor.log"].days) == (3, 30)


def test_stack_writes_the_topics_that_have_schemas_and_finds_its_place_in_them() -> None:
    events = {"collector": ["bitcoind.block"], "gazette": ["gazette.issue"]}
    found = declared(events=events, collector={}, gazette={"topics": {"gazette.issue": {"days": 2}}})
    assert {right for right in own(found) if right.user == "collector"} == {
        Right("collector", "WRITE", "TOPIC", "bitcoind.block"),
        Right("collector", "READ", "TOPIC", "bitcoind.block"),
        Right("collector", "READ", "GROUP", "collector"),
    }
    assert (found.topics["bitcoind.block"].days, found.topics["gazette.issue"].days) == (7, 2)


@pytest.mark.parametrize(
    ("permissions", "fault"),
    [
        ([], ""),
        (["x"], "asks for something else than topics and reads"),
        ({"writes": []}, "asks for something else than topics and reads"),
        ({"topics": ["gazette.x"]}, "has topics that are no mapping"),
        ({"reads": [1]}, "or reads that are no list of names"),
        ({"topics": {"gazette": None}}, 'names "gazette", which is no topic as gazette.event'),
        ({"reads": ["*"]}, 'names "*", which is no topic'),
        ({"reads": ["__consumer_offsets"]}, 'names "__consumer_offsets", which is no topic'),
        ({"topics": {"reader.x": None}}, "writes reader.x: its topics begin with gazette."),
        ({"topics": {"gazette.x": {"hours": 1}}}, "says something else of gazette.x than days and size"),
        ({"topics": {"gazette.x": {"days": 0}}}, "keeps gazette.x for no whole number of days"),
        ({"topics": {"gazette.x": {"days": True}}}, "keeps gazette.x for no whole number of days"),
        ({"topics": {"gazette.x": {"size": 5}}}, "or no size as 64MiB"),
    ],
)
def test_stack_that_says_it_wrongly_has_no_rights_and_others_have_theirs(permissions: Any, fault: str) -> None:
    found = declared(gazette=permissions, reader={"reads": ["gazette.issue"]})
    assert own(found) == READS
    assert [text.startswith("stack gazette ") and fault in text for text in found.faults] == [True] * bool(fault)


def test_settings_that_fit_no_topic_are_faults() -> None:
    gazette = {"topics": {"gazette.issue": None}}
    found = declared({"gazette.isue": {"days": 1}}, ("gazette.issue", "gone.x"), gazette=gazette)
    assert found.faults == (
        "kafka_retention names gazette.isue, which no stack writes: correct it",
        "kafka_drop names gazette.issue, which a stack writes: leave it out",
    )
    assert "gazette.issue" in found.topics


@pytest.mark.parametrize(
    "changed",
    [
        {"permission": 2},
        {"host": "10.0.0.1"},
        {"pattern": 2},
        {"kind": 4},
        {"who": "Group:reader"},
    ],
)
def test_right_of_another_form_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(Lasting, match="there is a right that no run has made: .* to gazette.issue"):
        kafka.read_rights(listed(**changed))


def test_kafka_that_does_not_say_what_is_allowed_is_a_fault() -> None:
    with pytest.raises(Fault, match="not say what is allowed: no authorizer"):
        kafka.read_rights(Answer(struct.pack("!ih", 0, 54) + text("no authorizer")))


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ([b"", b"\0\x3a"], "refuses its administrator: error 58"),
        ([b"", b"\0\0", None], "it ended the connection"),
        ([None], "it ended the connection"),
    ],
)
def test_administrator_without_an_answer_is_a_fault(answers: list[bytes | None], fault: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _address = server.accept()
            with connection, connection.makefile("rb") as stream:
                for answer in answers:
                    stream.read(int.from_bytes(stream.read(4), "big"))
                    if answer is not None:
                        connection.sendall(struct.pack("!ii", 4 + len(answer), 0) + answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(Fault, match=fault):
            kafka.ask_rights(f"127.0.0.1:{server.getsockname()[1]}", "secret")
        thread.join()


def test_rights_are_changed_with_one_call_for_each_user_and_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(kafka, "run_java", lambda _program, *words: calls.append(words[4:]))
    kafka.change_rights("127.0.0.1:9094", {WRITES, *READS}, "--add")
    assert calls == [
        ("--add", "--force", "--allow-principal", "User:gazette", "--operation", "WRITE")
        + ("--resource-pattern-type", "literal", "--topic", "gazette.issue"),
        ("--add", "--force", "--allow-principal", "User:reader", "--operation", "READ")
        + ("--resource-pattern-type", "literal", "--group", "reader", "--topic", "gazette.issue"),
    ]


def test_program_elsewhere_reads_topics_or_all_of_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    found = own(declared(clients={"alice": ["gazette.*", "shop.order"]}, gazette={"topics": {"gazette.issue": None}}))
    granted = found - {WRITES}
    assert granted == {
        Right("client_alice", "READ", "TOPIC", "gazette.*"),
        Right("client_alice", "READ", "TOPIC", "shop.order"),
        Right("client_alice", "READ", "GROUP", "client_alice"),
    }
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(kafka, "run_java", lambda _program, *words: calls.append(words[10:]))
    kafka.change_rights("127.0.0.1:9094", granted, "--remove")
    assert calls == [
        ("--resource-pattern-type", "literal", "--group", "client_alice", "--topic", "shop.order"),
        ("--resource-pattern-type", "prefixed", "--topic", "gazette."),
    ]
    assert Right("reader", "READ", "TOPIC", "gazette.*") in kafka.read_rights(listed(name="gazette.", pattern=4))


def test_everything_that_stacks_write_can_be_looked_at() -> None:
    rights = declared(events={"collector": ["bitcoind.block"]}, collector={}).rights
    assert {right.name for right in rights if right.user == READER and right.kind == "TOPIC"} == {"bitcoind.block"}
    assert {right.operation for right in rights if right.user == READER} == {"READ"}
