# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""100 certificates, issued and then none due: one ca_certificate, and community.crypto in loops."""

from __future__ import annotations

import sys
from statistics import median

from .measure import Bench, Line

_COUNT = 100
_TASKS = ("The key", "The request", "The certificate")


def lines(bench: Bench) -> list[Line]:
    names = [f"leaf{number}" for number in range(_COUNT)]
    first, again = [], []
    for number in range(bench.repetitions):
        variables = {"names": names, "place": str(bench.folder / f"authority{number}")}
        tasks = bench.playbook("playbooks/certificates.yml", variables).tasks
        first.append(tasks["Issue them with ca_certificate"])
        again.append(tasks["Leave them alone with ca_certificate"])
    # minutes, compared with which chance is nothing
    variables = {"names": names, "place": str(bench.folder / "crypto"), "python": sys.executable}
    tasks = bench.playbook("playbooks/crypto.yml", variables).tasks
    theirs, theirs_again = (sum(tasks[f"{task}{suffix}"] for task in _TASKS) for suffix in ("", ", again"))
    issued, alone = f"{_COUNT} certificates issued: key, certificate, chain", f"{_COUNT} certificates, none due"
    return [
        Line(issued, median(first), at_most=1.5),
        Line("the same", median(first), "`community.crypto` in loops", theirs),
        Line(alone, median(again), at_most=0.3),
        Line("the same", median(again), "`community.crypto` in loops", theirs_again),
    ]
