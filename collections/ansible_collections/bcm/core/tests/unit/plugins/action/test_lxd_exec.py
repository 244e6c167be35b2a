# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import MagicMock

import pytest
from ansible.playbook.task import Task

from ansible_collections.bcm.core.plugins.action import lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.commands import CommandsResult


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"argv": ["env"]}, [{"PROXY": "task", "ZONE": "play"}]),
        ({"argv": ["env"], "environment": {"ZONE": 1}}, [{"PROXY": "task", "ZONE": 1}]),
        (
            {"commands": [{"argv": ["env"], "environment": {"PROXY": "own"}}, {"argv": ["env"]}]},
            [{"PROXY": "own", "ZONE": "play"}, {"PROXY": "task", "ZONE": "play"}],
        ),
    ],
)
def test_environment_of_the_option_overrides_that_of_the_keyword(
    monkeypatch: pytest.MonkeyPatch, args: dict[str, Any], expected: list[dict[str, Any]]
) -> None:
    ran: list[Mapping[str, Any]] = []

    def run(_client: Any, _instance: str, commands: Sequence[Mapping[str, Any]], **_options: Any) -> CommandsResult:
        ran.extend(commands)
        return CommandsResult()

    monkeypatch.setattr(lxd_exec, "run_commands", run)
    environment = [{"PROXY": "play", "ZONE": "play"}, {"PROXY": "task"}]
    task = MagicMock(
        spec=Task, args={"instance": "a", **args}, async_val=0, check_mode=False, diff=False, environment=environment
    )
    templar = MagicMock()
    templar.template = lambda value, **_options: value
    templar.copy_with_new_env.return_value = templar
    action = lxd_exec.ActionModule(task, MagicMock(), MagicMock(), MagicMock(), templar)
    action._client = MagicMock()
    action.run(task_vars={"inventory_hostname": "localhost"})
    assert [item["environment"] for item in ran] == expected
