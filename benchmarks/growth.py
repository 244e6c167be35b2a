# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From 1 to 40 instances: what each of them costs lxd_apply, to make and to hold. Seconds of the task alone."""

from __future__ import annotations

from statistics import median

from .measure import Bench, Line

_SIZES = (1, 5, 10, 20, 40)
# By how much the same measurement differs from one run to the next.
_NOISE = 1.1


def lines(bench: Bench) -> list[Line]:
    making: dict[int, list[float]] = {size: [] for size in _SIZES}
    holding: dict[int, list[float]] = {size: [] for size in _SIZES}
    for round_ in range(bench.repetitions):
        for size in _SIZES[:: -1 if round_ % 2 else 1]:
            instances = bench.instances("grow", size)
            try:
                made, held = (bench.playbook("playbooks/make.yml", {"instances": instances}) for _ in range(2))
            finally:
                bench.remove("grow", size)
            making[size].append(made.tasks["Make instances"] / size)
            holding[size].append(held.unchanged().tasks["Make instances"] / size)
    return [*_growth("make and start", making), *_growth("hold", holding)]


def _growth(work: str, seconds: dict[int, list[float]]) -> list[Line]:
    each = {size: median(values) for size, values in seconds.items()}
    found = []
    for place, size in enumerate(_SIZES[1:], 1):
        best = min(_SIZES[:place], key=lambda less: each[less])
        against = f"for each of {best}, the best below"
        found.append(Line(f"{work} {size} instances, for each", each[size], against, each[best], _NOISE))
    return found
