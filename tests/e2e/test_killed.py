# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Killed at any moment, the next run finishes the work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Person, ours

pytestmark = [pytest.mark.containers, pytest.mark.whole]

# Fractions of the time that an undisturbed run takes.
POINTS = tuple(round(0.04 + 0.92 * n / 7, 2) for n in range(8))


@pytest.fixture(scope="module")
def measured(person: Person, started: dict[str, object]) -> Iterator[tuple[str, float]]:
    """A data center of its own, and the seconds it takes to come up from images that exist."""
    name = person.datacenter("killed")
    begun = time.monotonic()
    person.succeeds("-d", name, "stack", "start", "electrum")
    duration = time.monotonic() - begun
    yield name, duration
    person.succeeds("-d", name, "stack", "remove", "tor", "--delete-data")
    assert not any(ours(name).values())


@pytest.mark.parametrize("point", POINTS)
def test_next_run_heals_a_killed_one(person: Person, measured: tuple[str, float], point: float) -> None:
    name, duration = measured
    person.succeeds("-d", name, "stack", "remove", "tor", "--delete-data")
    victim = subprocess.Popen(
        person.command("-d", name, "stack", "start", "electrum"), cwd=person.home, env=person.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        victim.wait(duration * point)
    except subprocess.TimeoutExpired:
        os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    person.succeeds("-d", name, "stack", "start", "electrum")
    assert person.succeeds("-d", name, "stack", "start", "electrum").rstrip().endswith("nothing changed")
