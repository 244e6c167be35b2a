# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The electrum stack from nothing, with where the time went, and a second data center from images that exist."""

from __future__ import annotations

from .datacenter import deployed
from .measure import Bench, Line, Run

_SLOWEST = 4


def lines(bench: Bench) -> list[Line]:
    first_work = "first run, images from the disk cache" if bench.warm else "first run, from nothing"
    with deployed(bench, "bench-a") as first, deployed(bench, "bench-b") as second:
        return [
            Line(f"{first_work}, verified", first.seconds),
            *(Line(f"… of it: {text}", seconds) for text, seconds in _where(first)),
            Line("a second data center with the electrum stack, verified", second.seconds, at_most=30.0),
            *(Line(f"… of it: {text}", seconds) for text, seconds in _where(second)),
        ]


def _where(run: Run) -> list[tuple[str, float]]:
    """The plays, and the tasks that took longest of all."""
    plays = [(f"play {name}", seconds) for name, seconds in run.plays.items() if seconds >= 1]
    slowest = sorted(run.steps, key=lambda step: -step.seconds)[:_SLOWEST]
    return plays + [(f"{step.host}: {step.task}", step.seconds) for step in slowest]
