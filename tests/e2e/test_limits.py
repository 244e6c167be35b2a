# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An instance that takes all it can does not disturb the others."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import INSTANCES, Person, client, inside
from tests.support import LXD_DIR

pytestmark = [pytest.mark.containers, pytest.mark.whole]

GREEDY, OTHER = "tor", "bitcoind"
GIB = 2**30

# Each as root of the instance, and each says how far it came.
_DISK = "cd /var/tmp; for n in 1 2 3 4 5 6; do fallocate -l 1G greedy$n || break; echo $n; done"
_FORKS = """
import os, time
children = []
try:
    while len(children) < 5000:
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        children.append(child)
except OSError:
    pass
print(len(children))
for child in children:
    os.kill(child, 9)
"""
_MEMORY = """
import subprocess, sys
hog = "x = []\\nwhile True:\\n    x.append(b'x' * 2**24)\\n    print(len(x), flush=True)"
print(subprocess.run([sys.executable, "-c", hog], stdout=subprocess.PIPE).stdout.split()[-1].decode())
"""


@pytest.fixture
def answers(started: dict[str, Any]) -> Iterator[None]:
    """The greedy one still runs afterwards, and the other one has never noticed."""
    before = inside("local", OTHER, "systemctl", "show", "--property=MainPID,NRestarts", "bitcoind")
    yield
    assert inside("local", OTHER, "bitcoin-cli", "getblockcount").isdigit()
    assert inside("local", OTHER, "systemctl", "show", "--property=MainPID,NRestarts", "bitcoind") == before
    assert inside("local", GREEDY, "systemctl", "is-active", "tor") == "active"


def test_limits_are_reported(person: Person, started: dict[str, Any]) -> None:
    said = json.loads(person.succeeds("stack", "start", GREEDY, "--json"))
    limits = {item["stack"]: item["limits"] for item in said["stacks"]}
    assert limits[GREEDY] == {"memory": "1GiB", "processors": 2, "processes": 500, "root": "4GiB"}


def _counters() -> str:
    """What the kernel says of the counters of btrfs, without which a limit of a disk does not hold."""
    flags = {str(path): path.read_text().strip() for path in Path("/sys/fs/btrfs").glob("*/qgroups/*[a-z]")}
    said = subprocess.run(["dmesg"], capture_output=True, text=True, check=False).stdout.splitlines()
    return "\n".join([f"the kernel's counters: {flags}", *[line for line in said if "qgroup" in line][-20:]])


@pytest.fixture
def counted() -> None:
    """The kernel has counted what the pool holds: it takes its time, and a limit does not hold until then.

    When it has removed what was deleted before, it may have lost count.
    """
    pool = LXD_DIR / "storage-pools/default"
    subprocess.run(["btrfs", "subvolume", "sync", pool], check=True, timeout=300)
    subprocess.run(["btrfs", "quota", "rescan", "-w", pool], check=True, timeout=300)


def test_counters_that_the_kernel_has_lost_are_warned_of(person: Person, answers: None, counted: None) -> None:
    pool = LXD_DIR / "storage-pools/default"

    def btrfs(words: str, path: Path = pool) -> str:
        return subprocess.run(["btrfs", *words.split(), path], check=True, capture_output=True, text=True).stdout

    with client("local") as lxd:
        number = btrfs("inspect-internal rootid", pool / f"containers/{lxd.project}_{GREEDY}").strip()
    btrfs("qgroup create 1/0")
    try:
        # A group counts nothing that it shares with others, such as an image, until all is counted again.
        btrfs(f"qgroup assign --no-rescan 0/{number} 1/0")
        device = json.loads(person.succeeds("stack", "status", "--json"))["uncounted"]
        assert f"the kernel has lost count of what is on {device}" in person.succeeds("stack", "status")
        btrfs(f"qgroup remove --no-rescan 0/{number} 1/0")
    finally:
        btrfs("qgroup destroy 1/0")
        btrfs("quota rescan -w")
    assert json.loads(person.succeeds("stack", "status", "--json"))["uncounted"] is None


def test_full_disk_of_an_instance_leaves_others_their_space(answers: None, counted: None) -> None:
    with client("local") as lxd:
        space = lxd.get("/1.0/storage-pools/default/resources", project=None)["space"]
    assert space["total"] - space["used"] > 8 * GIB, "the pool has to have room for more than the limit"
    try:
        written = inside("local", GREEDY, "sh", "-c", _DISK).split()
        assert written[-1] == "3", f"4 GiB, of which the image takes some; {_counters()}"
        inside("local", OTHER, "sh", "-c", "fallocate -l 64M /var/tmp/room && rm /var/tmp/room")
    finally:
        inside("local", GREEDY, "sh", "-c", "rm -f /var/tmp/greedy*")


def test_number_of_processes_is_limited(answers: None) -> None:
    assert 100 < int(inside("local", GREEDY, "python3", "-c", _FORKS)) < 500
    assert int(inside("local", OTHER, "python3", "-c", _FORKS.replace("5000", "100"))) == 100


def test_memory_is_limited(answers: None) -> None:
    assert 16 <= int(inside("local", GREEDY, "python3", "-c", _MEMORY)) <= 64


def _id_maps() -> dict[str, str]:
    return {name: inside("local", name, "cat", "/proc/self/uid_map") for name in INSTANCES}


def test_each_instance_has_an_id_map_of_its_own(started: dict[str, Any]) -> None:
    assert len(set(_id_maps().values())) == len(INSTANCES)


def test_instance_in_the_shared_id_map_gets_its_own_and_reads_its_volume(
    person: Person, started: dict[str, Any]
) -> None:
    """As one that an earlier version made."""
    height = inside("local", OTHER, "bitcoin-cli", "getblockcount")
    with client("local") as lxd:
        path = f"/1.0/instances/{OTHER}"
        body, etag = lxd.read(path)
        config = {key: value for key, value in body["config"].items() if not key.startswith("security.idmap.")}
        lxd.call("PUT", path, {**body, "config": config}, what="share the id map", etag=etag)
        lxd.call("PUT", f"{path}/state", {"action": "restart", "timeout": 60}, what=f"restart {OTHER}")
    assert _id_maps()[OTHER].split()[2] != "65536"
    person.succeeds("stack", "start", OTHER)
    assert len(set(_id_maps().values())) == len(INSTANCES)
    assert inside("local", OTHER, "bitcoin-cli", "getblockcount") == height
    assert person.succeeds("stack", "start", OTHER).rstrip().endswith("nothing changed")
