# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""20 instances in their desired state: one lxd_apply, and lxd_container in a loop. Seconds of the task alone."""

from __future__ import annotations

from statistics import median

from .measure import Bench, Line

_COUNT = 20
_OURS, _THEIRS = "Hold the instances with lxd_apply", "Hold the instances with lxd_container"


def lines(bench: Bench) -> list[Line]:
    with bench.running("hold", _COUNT) as instances:
        variables = {"instances": instances}
        runs = [bench.playbook("playbooks/hold.yml", variables).unchanged() for _ in range(bench.repetitions)]
    ours, theirs = (median(run.tasks[task] for run in runs) for task in (_OURS, _THEIRS))
    work = f"`lxd_apply`, {_COUNT} instances in their desired state"
    return [Line(work, ours, "`lxd_container` in a loop", theirs, 1 / 20)]
