# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any moment, the next run finishes the work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests.e2e.conftest import KILLS, Person, ours
from tests.https import listening
from tests.support import LXD_DIR

pytestmark = [pytest.mark.containers, pytest.mark.whole]

# Fractions of the time that an undisturbed run takes.
POINTS = tuple(round(0.04 + 0.92 * n / max(1, KILLS - 1), 2) for n in range(KILLS))
# Data centers in which runs are killed side by side; the other one is reached over HTTPS, as if it were far away.
NAMES = ("killed", "struck")

Done = subprocess.CompletedProcess[str]


def _kill(person: Person, name: str, seconds: float) -> tuple[Done, Done]:
    """The two runs after one that was killed so many seconds after its begin, in a data center with nothing in it."""
    person.succeeds("-d", name, "stack", "remove", "tor", "--delete-data")
    victim = subprocess.Popen(
        person.command("-d", name, "stack", "start", "electrum"), cwd=person.home, env=person.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        victim.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    healing = person.types("-d", name, "stack", "start", "electrum")
    return healing, person.types("-d", name, "stack", "start", "electrum")


def _kill_at(person: Person, name: str, points: Sequence[float]) -> dict[float, tuple[Done, Done]]:
    begun = time.monotonic()
    person.succeeds("-d", name, "stack", "start", "electrum")
    duration = time.monotonic() - begun
    return {point: _kill(person, name, duration * point) for point in points}


@pytest.fixture(scope="module")
def runs(
    person: Person, started: dict[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[float, tuple[Done, Done]]]:
    """The two runs after a killed one, by the point at which that one was killed."""
    shares = [POINTS[number :: len(NAMES)] for number in range(len(NAMES))]
    with Client(str(LXD_DIR / "unix.socket")) as lxd, listening(lxd, tmp_path_factory.mktemp("https")) as remote:
        for name, settings in zip(NAMES, ({}, remote.settings()), strict=True):
            person.datacenter(name, **settings)
        try:
            with ThreadPoolExecutor() as pool:
                found = [*pool.map(_kill_at, [person] * len(NAMES), NAMES, shares)]
            yield {point: outcome for share in found for point, outcome in share.items()}
        finally:
            for name in NAMES:
                person.succeeds("-d", name, "stack", "remove", "tor", "--delete-data")
                assert not any(ours(name).values())


@pytest.mark.parametrize("point", POINTS)
def test_next_run_heals_a_killed_one(runs: dict[float, tuple[Done, Done]], point: float) -> None:
    healing, last = runs[point]
    assert healing.returncode == 0, healing.stdout + healing.stderr
    assert last.stdout.rstrip().endswith("nothing changed"), last.stdout + last.stderr
