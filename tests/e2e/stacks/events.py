# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""events.py write TOPIC COUNT [OPTIONS] | read TOPIC [OPTIONS]: write numbered events, or read all; OPTIONS are JSON.

It prints what the broker acknowledged, or what it has read, a line each; the last line is the fault, if there is one.
"""

import json
import sys
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition

PATIENCE = 12  # seconds


def write(options, topic, count):
    faults = []

    def hear(error, record):
        faults.append(error.name()) if error else print(record.value().decode(), flush=True)

    told = []
    more = {"acks": "all", "message.timeout.ms": PATIENCE * 1000, "queue.buffering.max.messages": 2 * count}
    producer = Producer({**more, **options, "error_cb": told.append})
    for number in range(count):
        producer.produce(topic, str(number), callback=hear)
        producer.poll(0 if number % 100 else 0.01)
    producer.flush(PATIENCE + 5)
    return [*faults, *(error.str() for error in told)]


def read(options, topic):
    reader = Consumer({**options, "group.id": options["sasl.username"], "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    try:
        while True:
            record = reader.poll(PATIENCE)
            if record is None:
                return ["nothing answers"]
            if record.error():
                return [] if record.error().name() == "_PARTITION_EOF" else [record.error().name()]
            print(record.value().decode())
    finally:
        reader.close()


verb, topic, *rest = sys.argv[1:]
more = json.loads(rest[-1]) if rest and rest[-1].startswith("{") else {}
own = {**json.loads(Path("/root/client.json").read_text()), "log_level": 0, **more}
own = {name: value for name, value in own.items() if value != ""}
try:
    found = write(own, topic, int(rest[0])) if verb == "write" else read(own, topic)
except KafkaException as fault:
    found = [str(fault)]
print(*found[:1], sep="\n", end="")
