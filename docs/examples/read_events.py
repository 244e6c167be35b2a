# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Print events as they come, each once: python3 read_events.py FOLDER TOPIC...

FOLDER is what `bcm events grant` has filled. Of Debian it needs python3-confluent-kafka and python3-avro. It goes on
where it was when it ended.
"""

import io
import json
import sys
import warnings
from collections import deque
from pathlib import Path

import avro.io
import avro.schema
from confluent_kafka import Consumer, KafkaException

folder, *topics = sys.argv[1:]
warnings.simplefilter("ignore")  # avro knows no logical type "hash", and reads what it is kept as

(file,) = Path(folder).glob("*.properties")
options = dict(line.split("=", 1) for line in file.read_text().splitlines())
options |= {key: str(Path(folder, value)) for key, value in options.items() if key.endswith(".location")}

# An event begins with C3 01 and the fingerprint of the schema with which it was written.
schemas = {}
for topic, versions in json.loads(Path(folder, "schemas.json").read_text()).items():
    parsed = [avro.schema.parse(json.dumps(version)) for version in versions]
    schemas[topic] = {schema.fingerprint("CRC-64-AVRO"): avro.io.DatumReader(schema, parsed[-1]) for schema in parsed}

consumer = Consumer({**options, "auto.offset.reset": "earliest", "enable.auto.commit": False})
consumer.subscribe(topics)
newest = deque(maxlen=10_000)
try:
    while True:
        record = consumer.poll(1)
        if record is None:
            continue
        if record.error():
            raise KafkaException(record.error())
        topic, data = record.topic(), record.value()
        if data[2:10] not in schemas.get(topic, {}):
            sys.exit(f"schemas.json lacks the schema of an event of {topic}: let `bcm events grant` write it again")
        event = schemas[topic][data[2:10]].read(avro.io.BinaryDecoder(io.BytesIO(data[10:])))
        # An event that comes twice has the ID that it had.
        if event["event"]["id"] not in newest:
            newest.append(event["event"]["id"])
            print(json.dumps(event, default=str), flush=True)
        # Only now is it done: a program that ends before this gets the event again.
        consumer.commit(record, asynchronous=False)
except KeyboardInterrupt:
    pass
finally:
    consumer.close()  # or the broker waits for it before others of its group get events
