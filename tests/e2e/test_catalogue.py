# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every stack of the catalogue in one data center, before and after its machine is restarted.

Doubles stand where README.md says so.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from bcm_cli import lxd_setup
from bcm_cli.config import DataCenter
from tests import clightning, tornet
from tests.e2e.conftest import Person, client, inside, quiet, reported
from tests.support import Tools, until

pytestmark = pytest.mark.containers

NAME = "every"
# Most people should run no relay, and each is a machine's only one.
STACKS = sorted(set(Catalogue.read()) - {"torrelay"})


def start(person: Person) -> dict[str, Any]:
    return reported(person.succeeds("-d", NAME, "stack", "start", *STACKS, "--json"))


def height() -> int:
    return int(inside(NAME, "bitcoind", "bitcoin-cli", "getblockcount"))


@pytest.fixture(scope="module")
def stacks(
    person: Person, relays: tornet.TorNetwork, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """What a run says of each, once there are blocks."""
    person.datacenter(NAME)
    settings = json.loads(clightning.environment(tmp_path_factory.mktemp("releases"))["BCM_TEST_SETTINGS"])
    settings |= {"tor_network": True, "tor_lines": relays.lines}
    with person.settings(NAME).open("a") as file:
        file.write("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    start(person)
    person.succeeds("-d", NAME, "lightning", "fund", "lnd")
    yield start(person)
    person.succeeds("-d", NAME, "stack", "remove", "tor", "--delete-data")


def test_each_is_proved_and_knows_all_blocks_and_a_further_run_changes_nothing(
    person: Person, stacks: dict[str, Any]
) -> None:
    assert sorted(stacks) == STACKS
    assert [name for name, stack in stacks.items() if not stack["verified"]] == []
    with quiet(NAME):
        inside(NAME, "bitcoind", "bitcoin-cli", "generatetodescriptor", "3", "raw(51)")
        done = person.types("-d", NAME, "stack", "start", *STACKS, "--json")
    assert "Done: nothing changed" in done.stderr, done.stdout + done.stderr
    now = reported(done.stdout)
    heights = {name: stack["facts"]["height"] for name, stack in now.items() if "height" in stack["facts"]}
    assert heights.pop("liquid") == 0, "it has a chain of its own"
    assert set(heights.values()) == {height()}


def test_all_is_there_after_a_restart_of_the_machine(
    person: Person, stacks: dict[str, Any], lxd_tools: Tools
) -> None:
    before = height()
    subprocess.run(["lxd", "shutdown", "--timeout=120"], env=lxd_tools.environment, check=True)
    lxd_setup.ready(DataCenter("local"), yes=True)

    def running() -> set[str]:
        with client(NAME) as lxd:
            return {item["name"] for item in lxd.get("/1.0/instances", recursion=1) if item["status"] == "Running"}

    until(lambda: running() >= set(STACKS), "all instances run again")
    now = start(person)
    assert [name for name, stack in now.items() if not stack["verified"]] == []
    assert (height(), now["lnd"]["facts"]["public_key"]) == (before, stacks["lnd"]["facts"]["public_key"])
