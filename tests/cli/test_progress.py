# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback progress, as ansible-playbook loads it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.bcm.core.plugins.callback import progress
from tests.cli.conftest import Terminal
from tests.support import ROOT

PLAYBOOK = [
    {
        "name": "Plan",
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {"name": "Think", "ansible.builtin.command": "true", "changed_when": False},
            {"name": "Warn", "ansible.builtin.debug": {"msg": "x"}, "loop": [1, 2], "changed_when": False},
        ],
    },
    {"name": "Nobody", "hosts": "nobody", "gather_facts": False, "tasks": [{"ansible.builtin.meta": "noop"}]},
    {
        "name": "Configure",
        "hosts": "g",
        "gather_facts": False,
        "tasks": [
            {"name": "Sleep", "ansible.builtin.command": "sleep {{ seconds | default(0) }}", "changed_when": False},
            {"name": "Write", "ansible.builtin.copy": {"dest": "{{ to }}/{{ inventory_hostname }}", "content": "a\n"}},
            {
                "name": "Break",
                "ansible.builtin.command": "sh -c 'echo first; echo the reason >&2; exit 3'",
                "when": "fault == 'command' and inventory_hostname == 'b'",
            },
            {"name": "Refuse", "ansible.builtin.fail": {"msg": "Pool x is too small"}, "when": "fault == 'fail'"},
            {
                "name": "Loop",
                "ansible.builtin.fail": {"msg": "bad {{ item }}"},
                "loop": ["one", "two"],
                "when": "fault == 'loop' and item == 'two'",
            },
            {"name": "Hide", "ansible.builtin.fail": {"msg": "s3cret"}, "no_log": True, "when": "fault == 'hidden'"},
            {"name": "Template", "ansible.builtin.debug": {"msg": "{{ nowhere }}"}, "when": "fault == 'template'"},
            {
                "name": "Lost",
                "ansible.builtin.ping": {},
                "when": "fault == 'unreachable'",
                "vars": {"ansible_connection": "ssh", "ansible_port": 9},
            },
        ],
    },
    {
        "name": "Report",
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"bcm_report": {"chain": "regtest", "instances": {"tor": {"port": 1}, "bitcoind": {"port": 2}}}},
        "tasks": [{"name": "Say", "ansible.builtin.debug": {"var": "bcm_report"}}],
    },
]  # fmt: skip


class Run:
    """A run of the playbook in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        hosts = {"a": None, "b": None}
        python = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"hosts": {"localhost": None}, "vars": python, "children": {"g": {"hosts": hosts}}}}
        (folder / "inventory.yml").write_text(yaml.safe_dump(inventory))
        (folder / "play.yml").write_text(yaml.safe_dump(PLAYBOOK, sort_keys=False))
        (folder / "to").mkdir()
        self.environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_STDOUT_CALLBACK": "bcm.core.progress",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
        }

    def command(self, *options: str, **variables: str) -> list[str]:
        given = json.dumps({"fault": "", "to": str(self.folder / "to"), **variables})
        program = shutil.which("ansible-playbook", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert program
        return [program, "-i", str(self.folder / "inventory.yml"), str(self.folder / "play.yml"), "-e", given, *options]

    def ends(self, *options: str, as_json: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, "BCM_JSON": str(int(as_json))}
        command = self.command(*options, **variables)
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_progress_and_report_are_shown(run: Run) -> None:
    done = run.ends()
    assert done.returncode == 0
    assert done.stderr == ""
    lines = re.sub(r"^ *\d+:\d\d  ", "", done.stdout, flags=re.M).splitlines()
    assert sorted(line[:10] for line in lines[2:4]) == ["  a: Write", "  b: Write"]
    assert [line[10:] for line in lines[2:4]] == [" (1 of 2)", " (2 of 2)"]
    assert [*lines[:2], *lines[4:]] == [
        "Plan",
        "Configure",
        "Report",
        "",
        "chain  regtest",
        "",
        "name      port",
        "tor       1",
        "bitcoind  2",
        "",
        "Done: 2 steps changed",
    ]
    again = run.ends().stdout
    assert "Write" not in again
    assert again.splitlines()[-1].endswith("Done: nothing changed")


def test_check_mode_shows_differences(run: Run) -> None:
    done = run.ends("--check", "--diff")
    assert done.stdout.count("+a") == 2
    assert done.stdout.splitlines()[-1].endswith("Done: 2 steps would change")
    assert list((run.folder / "to").iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "said", "changed"),
    [
        # a command has run before it failed
        ("command", "Failed: b: Break: non-zero return code\n    the reason\n", 3),
        ("fail", "Failed: a: Refuse: Pool x is too small\n", 2),
        ("loop", "Failed: a: Loop: two: bad two\n", 2),
        ("template", "Failed: a: Template: ", 2),
        ("unreachable", "Failed: a: Lost: ", 2),
    ],
)
def test_failure_is_one_message(run: Run, fault: str, said: str, changed: int) -> None:
    done = run.ends(fault=fault)
    assert done.returncode in (2, 4)
    assert said in done.stdout
    # The last line says once more where, for in a run of many stacks, much is said after it.
    where = "b" if said[8] == "b" else "a, b"
    assert done.stdout.splitlines()[-1].endswith(f"Failed in {where}: {changed} steps changed")
    assert "chain  regtest" not in done.stdout
    assert not re.search(r"Traceback|fatal:|FAILED|=>|Task failed", done.stdout + done.stderr)


def test_hidden_failure_stays_hidden(run: Run) -> None:
    done = run.ends(fault="hidden")
    assert "Failed: a: Hide: " in done.stdout
    assert "s3cret" not in done.stdout + done.stderr


def test_report_and_failures_are_json(run: Run) -> None:
    done = run.ends(as_json=True)
    assert json.loads(done.stdout) == {"chain": "regtest", "instances": {"tor": {"port": 1}, "bitcoind": {"port": 2}}}
    assert "Done: 2 steps changed" in done.stderr
    failed = run.ends(as_json=True, fault="fail")
    assert failed.returncode == 2
    errors = json.loads(failed.stdout)["errors"]
    assert sorted(error["instance"] for error in errors) == ["a", "b"]
    assert {(error["message"], error["error"]["code"]) for error in errors} == {("Pool x is too small", "failed")}


def test_outcome_has_steps_and_kinds_of_faults_alone(run: Run) -> None:
    path = run.folder / "outcome.json"
    run.environment["BCM_OUTCOME"] = str(path)
    assert run.ends("--diff").returncode == 0
    outcome = json.loads(path.read_text())
    written = [{"instance": name, "step": "Write", "what": ""} for name in ("a", "b")]
    assert sorted(outcome["changes"], key=lambda change: str(change["instance"])) == written
    assert (outcome["errors"], outcome["report"]["chain"]) == ([], "regtest")
    run.ends(fault="fail")
    outcome = json.loads(path.read_text())
    assert sorted(outcome["errors"]) == ["a: Refuse: failed", "b: Refuse: failed"]
    assert (outcome["changes"], outcome["report"]) == ([], {})


def test_verbose_shows_tasks_and_results(run: Run) -> None:
    assert "  Think\n" in run.ends("-v").stdout
    assert re.search(r"rc: 0", run.ends("-vv").stdout)


def test_long_step_ticks_on_a_terminal(run: Run) -> None:
    environment = {**run.environment, "TERM": "xterm", "COLUMNS": "100"}
    terminal = Terminal(run.command(seconds="6"), run.folder, environment)
    first = terminal.reads_seconds("Configure: a: Sleep")
    while terminal.reads_seconds("Configure: a: Sleep") <= first:
        pass
    assert terminal.ends() == 0
    # Each line begins where the ticking one was wiped away.
    assert re.search(r"\r\033\[K +0:\d\d  Report\n", terminal.output)


@pytest.mark.parametrize(
    ("difference", "shown"),
    [
        ({"before": {}, "after": {"a": 1}, "after_header": "network x (create)"}, ["network x (create)", "+a: 1"]),
        ({"before": {"a": "ä", "b": 2}, "after": {"b": 2}, "before_header": "y"}, ["y", "-a: ä", " b: 2"]),
        ({"before": "one\ntwo\n", "after": "one\n"}, [" one", "-two"]),
        ({"before": "same", "after": "same", "after_header": "z"}, ["z"]),
        (
            {"before": "\n".join("abcdefghij"), "after": "\n".join("Abcdefghij") + "\nk"},
            ["-a", "+A", " b", " c", "  …", " i", " j", "+k"],
        ),
        ({"prepared": "- x\n\n+ y"}, ["- x", "", "+ y"]),
        ({"src_binary": 1, "after_header": "/bin/x"}, ["/bin/x"]),
    ],
)
def test_differences_are_shown_as_lines(difference: dict[str, object], shown: list[str]) -> None:
    assert progress._difference(difference) == shown


def test_progress_of_a_step_is_shown_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = progress.CallbackModule()
    step = progress._Under("build-electrs: ", "Build it", 0.0)
    shown._running = {("build-electrs", "1"): step, ("build-tor", "2"): step}
    for far in ("crate 56 of 213", "crate 57 of 213"):
        shown._say(f"build-electrs: {far}", screen_only=True)
    assert [under.what for under in shown._running.values()] == ["Build it, crate 57 of 213", "Build it"]
