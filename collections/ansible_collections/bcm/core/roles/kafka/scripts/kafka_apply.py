# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kafka_apply.py ADDRESS:PORT: make topics and rights those of the plan, once the broker answers."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from bcm_guest.kafka import ADMIN, Declared, ask_rights, change_rights, login, read_declared
from bcm_guest.prove import Fault, has_main_process_ended
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

_DEADLINE = 240  # seconds; less than the unit has to start
_PASSWORD = re.compile(r'password="([^"]*)"')


def connect(place: str, password: str) -> tuple[AdminClient, dict[str, object]]:
    """The administrator's client, once the broker answers, and the topics that there are. Raises Fault."""
    client = AdminClient(login(place, ADMIN, password))
    end = time.monotonic() + _DEADLINE
    while True:
        try:
            return client, client.list_topics(timeout=5).topics
        except KafkaException as error:
            if time.monotonic() > end or has_main_process_ended():
                raise Fault(f"Kafka does not answer: {error}") from error


def apply_topics(client: AdminClient, there: dict[str, object], declared: Declared, drop: list[str]) -> None:
    """Make what is missing, with how long it is kept, and delete what is dropped. Raises Fault."""
    made = [NewTopic(name, 1, 1, config=topic.config) for name, topic in declared.topics.items() if name not in there]
    kept = [
        ConfigResource("topic", name, set_config=topic.config)
        for name, topic in declared.topics.items()
        if name in there
    ]
    dropped = [name for name in drop if name in there and name not in declared.topics]
    futures = {
        **(client.create_topics(made) if made else {}),
        **(client.alter_configs(kept) if kept else {}),
        **(client.delete_topics(dropped) if dropped else {}),
    }
    for what, future in futures.items():
        try:
            future.result(60)
        except KafkaException as error:
            raise Fault(f"{what}: {error}") from error


def main(place: str) -> None:
    wanted = json.loads(Path("/etc/kafka/declared.json").read_text())
    declared = read_declared(wanted)
    password = _PASSWORD.search(Path("/etc/kafka/admin.properties").read_text())[1]
    client, there = connect(place, password)
    apply_topics(client, there, declared, wanted["drop"])
    rights = ask_rights(place, password)
    change_rights(place, rights - declared.rights, "--remove")
    change_rights(place, declared.rights - rights, "--add")


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Fault as fault:
        raise SystemExit(f"topics and rights are not those of the plan: {fault}") from fault
