# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs on one data center, on a real server: the lock ends with its run, and secrets belong to what they made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.engine import reconcile
from ansible_collections.bcm.core.plugins.module_utils._lxd.resources import parse
from tests.support import LXD_DIR, PATIENCE, Tools, until

pytestmark = [pytest.mark.containers, pytest.mark.whole]

PROJECT = "bcm-claim-regtest"
LOCK = f"/1.0/profiles/{PROJECT}-lock"
CLAIM = {"endpoint": str(LXD_DIR / "unix.socket"), "datacenter": "claim", "chain": "regtest"}
PLAY = [
    {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {
                "bcm.core.claim": {**CLAIM, "abandoned_identity": "{{ abandoned | default(omit) }}"},
                "register": "claimed",
            },
            {"bcm.core.claim": {**CLAIM, "identity": "{{ claimed.identity }}"}},
            {"ansible.builtin.copy": {"content": "", "dest": "{{ inventory_dir }}/claimed"}, "check_mode": False},
            {"ansible.builtin.command": "sleep {{ seconds | default(0) }}"},
        ],
    }
]


@dataclass(frozen=True)
class Controller:
    """A folder with an inventory and secrets of its own."""

    tools: Tools
    folder: Path

    def starts(self, *options: str) -> subprocess.Popen[str]:
        (self.folder / "claimed").unlink(missing_ok=True)
        command = ["ansible-playbook", "-i", self.folder / "hosts.yml", self.folder / "play.yml", *options]
        return subprocess.Popen(
            command, env=self.tools.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def runs(self, *options: str) -> str:
        """What a run says; empty if it succeeded."""
        process = self.starts(*options)
        said = process.communicate(timeout=PATIENCE)[0]
        return said if process.returncode else ""

    def holds(self) -> subprocess.Popen[str]:
        """A run that has the lock, and lasts."""
        process = self.starts("-e", "seconds=600")
        until(lambda: (self.folder / "claimed").exists() or process.poll() is not None, "a run that has the lock")
        assert process.poll() is None
        return process


@pytest.fixture
def lxd(lxd_tools: Tools) -> Iterator[Client]:
    with Client(str(LXD_DIR / "unix.socket")) as client:
        yield client


@pytest.fixture
def controllers(lxd: Client, lxd_tools: Tools, tmp_path: Path) -> list[Controller]:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        (folder / "hosts.yml").write_text(json.dumps({"all": {"hosts": {"localhost": local}}}))
        (folder / "play.yml").write_text(json.dumps(PLAY))
    return [Controller(lxd_tools, folder) for folder in folders]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_one_run_at_a_time(controllers: list[Controller], lxd: Client, number: int) -> None:
    first, second = controllers
    held = first.holds()
    said = second.runs()
    assert "Data center claim (regtest) is being changed by " in said
    assert f"(process {held.pid}) since " in said
    assert not (second.folder / "claimed").exists()
    assert not (second.folder / "secrets").exists()
    assert second.runs("--check") == "", "who only looks needs no lock"
    os.killpg(held.pid, number)
    held.communicate(timeout=PATIENCE)
    assert second.runs() == "", "the lock ends with its run"
    until(lambda: lxd.find(LOCK) is None, "the end of the lock")


def test_a_run_whose_keeper_died_with_it_holds_nothing(controllers: list[Controller], lxd: Client) -> None:
    held = controllers[0].holds()
    keeper = json.loads(lxd.get(LOCK)["config"]["user.bcm.lock"])["keeper"]
    for process in (keeper, held.pid):
        os.kill(process, signal.SIGKILL)
    os.killpg(held.pid, signal.SIGKILL)
    held.communicate(timeout=PATIENCE)
    assert lxd.find(LOCK) is not None
    assert controllers[1].runs() == ""
    until(lambda: lxd.find(LOCK) is None, "the end of the lock")


def test_older_copies_of_the_certificates_are_refused(controllers: list[Controller], lxd: Client) -> None:
    first = controllers[0]
    assert first.runs() == ""
    authority = AuthorityFiles(first.folder / "secrets", "regtest")
    authority.write({"roots": [{"index": 1}]}, {}, 1)
    backup = [(path, path.read_text()) for path in (authority.public, authority.private)]
    identity = (first.folder / "secrets/regtest.identity").read_text().strip()
    config = {"user.bcm.datacenter": "claim", "user.bcm.identity": identity}
    path = f"/1.0/projects/{PROJECT}"
    lxd.call("POST", "/1.0/projects", {"name": PROJECT, "config": config}, what="make a project", project=None)
    try:
        for number in (1, 2):
            assert first.runs() == ""
            # what the plan wants of the project keeps the mark
            reconcile(lxd, [parse({"kind": "project", "name": PROJECT, "config": config})])
            assert lxd.get(path, project=None)["config"]["user.bcm.authority"] == f"1.{number}"
            authority.write({"roots": [{"index": 1}]}, {}, 1)
        for file, text in backup:
            file.write_text(text)
        assert "so what was revoked since would be good again" in first.runs()
    finally:
        lxd.call("DELETE", path, what="delete the project", project=None)


def test_a_controller_has_to_know_what_it_changes(controllers: list[Controller], lxd: Client) -> None:
    first, second = controllers
    assert first.runs() == ""
    identity = (first.folder / "secrets/regtest.identity").read_text().strip()
    config = {"user.bcm.datacenter": "claim", "user.bcm.identity": identity, "user.bcm.kept": "secrets"}
    lxd.call("POST", "/1.0/projects", {"name": PROJECT, "config": config}, what="make a project", project=None)
    try:
        assert "secrets/regtest.json is gone" in first.runs()
        (first.folder / "secrets/regtest.json").write_text("{}")
        assert first.runs() == ""
        for option in ((), ("--check",), ("-e", "abandoned=01234567")):
            said = second.runs(*option)
            assert "nothing was changed" in said.lower()
            assert identity[:8] in said
        assert not (second.folder / "secrets").exists()
        assert second.runs("-e", f"abandoned={identity[:8]}") == ""
        assert (second.folder / "secrets/regtest.identity").read_text().strip() != identity
    finally:
        lxd.call("DELETE", f"/1.0/projects/{PROJECT}", what="delete the project", project=None)
    until(lambda: lxd.find(LOCK) is None, "the end of the lock")
