# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay of the role torrelay in a real Tor network: what the directory authorities say of it."""

from __future__ import annotations

import shutil
from typing import Any

import jinja2
import yaml

from ansible_collections.bcm.core.plugins.module_utils._tor.relay import RelayIdentity, new_identity
from tests.support import COLLECTION
from tests.tornet import Tor, TorNetwork, free_port

ROLE = COLLECTION / "roles/torrelay"
# of the instance, in place of which tests.tornet has its own
PLACES = ("Log ", "DataDirectory ", "KeyDirectory ", "ControlSocket ", "CookieAuth")


def torrc() -> list[str]:
    """The torrc of the role, but for paths."""
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["bool"] = bool
    port = free_port()
    service = {"listen": "127.0.0.1", "port": port, "host_port": {"address": "127.0.0.1", "port": port}}
    given: dict[str, Any] = {
        "ansible_managed": "",
        "torrelay_keys": "",
        "torrelay_network": True,
        "torrelay_nickname": "middle",
        "bcm": {"services": {"or": service}},
    }
    defaults = {**yaml.safe_load((ROLE / "defaults/main.yml").read_text()), "torrelay_lines": ["AssumeReachable 1"]}
    text = environment.from_string((ROLE / "templates/torrc.j2").read_text()).render({**defaults, **given})
    return [line for line in text.splitlines() if not line.startswith(PLACES)]


def give(tor: Tor, identity: RelayIdentity) -> None:
    """Its keys, where the role puts them."""
    keys = tor.directory / "data/keys" / identity.fingerprint
    keys.mkdir(parents=True)
    files = {"secret_id_key": identity.rsa.encode(), "ed25519_master_id_secret_key": identity.master_file}
    for name, content in files.items():
        (keys / name).write_bytes(content)
    lines = [line for line in tor.torrc.read_text().splitlines() if not line.startswith("KeyDirectory ")]
    tor.torrc.write_text("\n".join((*lines, f"KeyDirectory {keys}\n")))


def start(tor: Tor) -> str:
    tor.start()
    with tor.control() as control:
        return control.getinfo("fingerprint")["fingerprint"]


def test_relay_is_listed_without_exit_and_keeps_its_identity(tor_network: TorNetwork) -> None:
    identity = new_identity()
    relay = tor_network.tor("middle", *torrc())
    give(relay, identity)
    assert start(relay) == identity.fingerprint
    line, descriptor = tor_network.listed(identity.fingerprint)
    assert line.split()[1] == "middle"
    # the flag Exit is one that this network gives to everybody
    assert [rule for rule in descriptor.splitlines() if rule.startswith(("accept", "reject"))] == ["reject *:*"]
    with relay.control() as control:
        assert control.getinfo("exit-policy/full")["exit-policy/full"] == "reject *:*"

    # with all that it had, except for what the controller keeps; authorities take no other second key for one they know
    relay.stop()
    shutil.rmtree(relay.directory / "data")
    give(relay, identity)
    assert start(relay) == identity.fingerprint
    tor_network.listed(identity.fingerprint, but=line)

    # another identity in the place of the first, beside what tor has derived from that
    other = new_identity()
    relay.stop()
    give(relay, other)
    assert start(relay) == other.fingerprint != identity.fingerprint
    relay.stop()
