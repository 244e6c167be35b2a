# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes when each task of each host began and ended; stands in for profile_tasks, which sees no single host."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: bench_times
type: aggregate
short_description: When each task of each host began and ended
description: Writes a JSON file, whose path is in the environment variable BENCH_TIMES, when the playbook ends.
requirements: [enable in configuration]
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "bench_times"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._play = ""
        self._tasks: dict[tuple[str, str], dict[str, Any]] = {}

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._play = str(play.get_name())

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        self._tasks[task._uuid, host.get_name()] = {
            "play": self._play,
            "task": str(task.get_name()),
            "host": host.get_name(),
            "begin": time.time(),
        }

    def v2_runner_on_ok(self, result: Any, **_rest: Any) -> None:
        task = self._tasks[result.task._uuid, result.host.get_name()]
        task.update(end=time.time(), changed=bool(result.result.get("changed")))

    v2_runner_on_failed = v2_runner_on_unreachable = v2_runner_on_skipped = v2_runner_on_ok

    def v2_playbook_on_stats(self, stats: Any) -> None:
        done = [task for task in self._tasks.values() if "end" in task]
        with open(os.environ["BENCH_TIMES"], "w", encoding="utf-8") as file:
            json.dump(done, file)
