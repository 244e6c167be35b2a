# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm events grant` and `revoke`: programs outside of the data center that read events."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter import secrets_file
from ansible_collections.bcm.core.plugins.module_utils._guest.kafka import client_login
from ansible_collections.bcm.core.plugins.module_utils._plan.access import LanAccess, client_name
from ansible_collections.bcm.core.plugins.module_utils._plan.request import Site

from . import ca_files, client_access, config, setup
from .ca_requests import ROOT_FILE
from .datacenter import DataCenter, UsageError
from .events import STACK, schemas
from .stacks import checked
from .trezor_session import vault

_VARIABLE, _SECRET, _SERVICE = "kafka_clients", "kafka/clients", "clients"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_TOPIC = re.compile(r"([a-z][a-z0-9-]*)[.]([a-z0-9_.-]{1,100}|[*])")


def grant(args: argparse.Namespace) -> int:
    """Let a program elsewhere read topics: write its certificate, and what a client of Kafka is told."""
    datacenter: DataCenter = args.datacenter
    if not _NAME.fullmatch(args.client):
        raise UsageError(f'"{args.client}"', "cannot be the name of a client", "use lower case, digits and hyphens")
    for topic in args.read:
        match = _TOPIC.fullmatch(topic)
        if match is None:
            raise UsageError(f'"{topic}"', "is no topic", "write one as bitcoind.block, or bitcoind.* for all of them")
        checked(datacenter, [match[1]])
    place = _place(datacenter)
    user, password = client_login(args.client, _secret(datacenter))
    granted = dict(datacenter.variable(_VARIABLE) or {})
    args.stack, args.by = STACK, "lan"
    client_access.let_in(args, sorted(set(args.read)))
    config.write(datacenter.group_vars, {_VARIABLE: {**granted, args.client: sorted(set(args.read))}})
    certificate = client_name(args.client, STACK)
    told = {
        "bootstrap.servers": f"{place.names[0] if place.names else place.address}:{place.port}",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": f"{ROOT_FILE}.crt",
        "ssl.certificate.location": f"{certificate}.crt",
        "ssl.key.location": f"{certificate}.key",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": password,
        "group.id": user,
    }
    path = ca_files.open_folder(args.out) / f"{certificate}.properties"
    forms = path.with_name("schemas.json")
    known = {topic: found for topic, found in schemas(datacenter).items() if _covers(args.read, topic)}
    ca_files.write(
        {
            path: ("".join(f"{key}={value}\n" for key, value in told.items()), 0o600),
            forms: (json.dumps(known, indent=1), 0o644),
        }
    )
    setup.step(f"{path} has the options of a client, and {forms.name} what events are made of")
    setup.step(f"{user} reads {', '.join(args.read)} at {told['bootstrap.servers']}")
    setup.step(f"`bcm -d {datacenter.name} stack start {STACK}` lets it in")
    return 0


def revoke(args: argparse.Namespace) -> int:
    """Take a program elsewhere its rights, and revoke its certificate."""
    datacenter: DataCenter = args.datacenter
    granted = dict(datacenter.variable(_VARIABLE) or {})
    if args.client in granted:
        config.write(datacenter.group_vars, {_VARIABLE: {k: v for k, v in granted.items() if k != args.client}})
    args.stack, args.by = STACK, "lan"
    return client_access.revoke(args)


def _covers(granted: Sequence[str], topic: str) -> bool:
    return topic in granted or f"{topic.partition('.')[0]}.*" in granted


def _place(datacenter: DataCenter) -> LanAccess:
    """Where programs elsewhere reach the broker. Raises BcmError."""
    place = Site(checked(datacenter, [STACK]), datacenter.request([])).access.of(STACK, _SERVICE)
    if place is None:
        raise BcmError(
            f"Stack {STACK}",
            "is not reached from elsewhere",
            f"write {STACK}/{_SERVICE} with `lan` below bcm_access in the inventory, as docs/access.md says",
            code="not_ready",
        )
    return place


def _secret(datacenter: DataCenter) -> str:
    """What the passwords of clients are made of. Raises BcmError."""
    path = datacenter.secrets / f"{datacenter.chain}.json"
    secret = secrets_file.read_secrets(path, vault(datacenter)).get(_SECRET) if path.exists() else None
    if secret is None:
        remedy = f"`bcm stack start {STACK}` creates them"
        raise BcmError(f"Stack {STACK}", "has no passwords yet", remedy, code="not_ready")
    return secret
