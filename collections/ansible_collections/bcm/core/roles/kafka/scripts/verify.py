# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prove that Kafka keeps what it acknowledges, and allows each stack only what the plan says."""

from __future__ import annotations

import os
import ssl

from bcm_guest.kafka import ADMIN, PROBE, ask_rights, login, read_declared
from bcm_guest.prove import TRUST, Endpoint, Fault, Lasting, Report, Stack, prove
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

#: seconds for one answer
_PATIENCE = 20
#: the share of a volume below which a run warns
_ROOM = 0.1


def write(options: dict[str, object], topic: str, text: bytes) -> tuple[KafkaError | None, int]:
    """Write a record; why it is refused, and where it is. Raises Fault if nothing answers."""
    told: list[tuple[KafkaError | None, int]] = []

    def hear(error: KafkaError | None, record: Message) -> None:
        told.append((error, -1 if error else record.offset()))

    producer = Producer({**options, "acks": "all", "message.timeout.ms": _PATIENCE * 1000})
    producer.produce(topic, text, callback=hear)
    producer.flush(_PATIENCE + 5)
    if not told or (told[0][0] and told[0][0].code() == KafkaError._MSG_TIMED_OUT):
        raise Fault(f"it does not answer {options['sasl.username']}, who writes to {topic}")
    return told[0]


def check_record(place: str, password: str) -> None:
    """Write a record and read it; see that a foreign topic is refused, and that none is made. Raises Fault."""
    own = login(place, PROBE, password)
    mark = os.urandom(8).hex().encode()
    error, offset = write(own, PROBE, mark)
    if error:
        raise Fault(f"it refuses a record: {error.str()}")
    reader = Consumer({**own, "group.id": PROBE, "enable.auto.commit": False})
    try:
        reader.assign([TopicPartition(PROBE, 0, offset)])
        record = reader.poll(_PATIENCE)
    finally:
        reader.close()
    if record is None or record.error() or record.value() != mark:
        found = record and (record.error() or record.value())
        raise Fault(f"a record that it acknowledged is not what is read: {found}")
    refused = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)
    error, _offset = write(own, f"{PROBE}_foreign", mark)
    if error is None or error.code() not in refused:
        raise Lasting(f"it lets a user write to a foreign topic: {error}")


def check_refused(stack: Stack) -> None:
    """See that a client without a certificate gets no answer. Raises Lasting if it does."""
    place = Endpoint(stack.bcm["address"], int(stack.bcm["services"]["events"]["port"]), tls=True)
    try:
        with place.connect() as connection:
            # A request for the versions of calls, which Kafka answers before anybody logs in.
            connection.sendall(bytes.fromhex("0000000e 0012 0000 00000001 0004") + b"test")
            answer = connection.recv(1)
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return
    if answer:
        raise Lasting(f"it answers a client without a certificate of {TRUST}")


def warnings(stack: Stack, unused: list[str]) -> list[str]:
    """What somebody should do something about."""
    found = [
        f"no stack writes the topic {name} any more: its events are kept as long as it says; delete it with"
        f' -e \'{{"kafka_drop": ["{name}"]}}\', or wait'
        for name in unused
    ]
    state = os.statvfs(stack.bcm["volumes"]["data"]["path"])
    if state.f_bavail < state.f_blocks * _ROOM:
        found.append("/var/lib/kafka is nearly full: a broker that cannot write stops; raise kafka_data_size")
    return found


def look(stack: Stack) -> Report:
    place, declared = stack.expected["internal"], read_declared(stack.expected["declared"])
    if declared.faults:
        raise Lasting(declared.faults[0])
    check_record(place, stack.secrets["kafka/probe"])
    check_refused(stack)
    try:
        topics = AdminClient(login(place, ADMIN, stack.secrets["kafka/admin"])).list_topics(timeout=_PATIENCE).topics
    except KafkaException as error:
        raise Fault(f"it does not answer its administrator: {error}") from error
    there = {name for name in topics if not name.startswith("__")}
    if missing := sorted(set(declared.topics) - there):
        raise Fault(f"topics are missing: {', '.join(missing)}")
    rights = ask_rights(place, stack.secrets["kafka/admin"])
    if wrong := sorted(rights ^ declared.rights):
        raise Fault(f"the right to {wrong[0].operation} {wrong[0].name} of {wrong[0].user} is not as planned")
    names = sorted(there - {PROBE})
    return Report(
        {"topics": names},
        [", ".join(names) or "no stack has a topic"],
        warnings(stack, sorted(there - set(declared.topics))),
    )


prove(look)
