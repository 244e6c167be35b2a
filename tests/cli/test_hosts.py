# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `bcm host` is told and decides before it reaches a machine, and what the role brings to it."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._lxd import endpoint
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import Unreachable
from bcm_cli import lxd_setup, members
from tests.cli.conftest import Checkout
from tests.support import COLLECTION, ROOT

ROLE = COLLECTION / "roles/host"


@pytest.fixture
def multipass(checkout: Checkout, tmp_path: Path) -> Path:
    """The folder of a double of multipass, the first in PATH."""
    folder = tmp_path / "multipass"
    folder.mkdir()
    (folder / "multipass").symlink_to(ROOT / "tests/programs/multipass_as_documented.py")
    (folder / "snap").symlink_to("/bin/true")
    (folder / "address").write_text("192.0.2.20")
    (folder / "machines.json").write_text('{"box": "Running"}')
    checkout.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    return folder


def test_machine_of_multipass_is_found_at_run_time(checkout: Checkout, multipass: Path) -> None:
    assert checkout.bcm("datacenter", "create", "vm", "--like", "multipass").returncode == 0
    get = ("-d", "vm", "config", "get", "endpoint")
    missing = checkout.bcm(*get)
    assert "bcm_multipass_name is not set yet: write the name of a machine" in missing.stderr
    assert checkout.bcm("-d", "vm", "config", "set", "multipass_name=box").returncode == 0
    assert checkout.bcm(*get).stdout == "ssh://ubuntu@192.0.2.20\n"
    (multipass / "address").write_text("192.0.2.21")
    assert checkout.bcm(*get).stdout == "ssh://ubuntu@192.0.2.21\n"
    assert checkout.bcm("host", "stop", "box").returncode == 0
    stopped = checkout.bcm(*get)
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert "no machine of that name runs: multipass list" in stopped.stderr


def test_machine_is_deleted_only_if_that_is_confirmed(checkout: Checkout, multipass: Path) -> None:
    refused = checkout.bcm("host", "delete", "box")
    assert (refused.returncode, refused.stderr) == (
        1,
        "bcm: Nothing was deleted: run it on a terminal, or add --yes\n",
    )
    wrong = checkout.bcm("--yes", "host", "delete", "bix")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        'bcm: Unknown machine "bix": did you mean "box"? Known machines: box\n',
    )
    assert checkout.bcm("--yes", "host", "delete", "box").returncode == 0
    assert (multipass / "asked").read_text().splitlines()[-1] == "delete --purge box"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["prepare", "debian@"], '"debian@" names no machine: write [USER@]ADDRESS[:PORT]'),
        (["prepare", "-oProxyCommand=x"], "the following arguments are required: [USER@]ADDRESS[:PORT]"),
        (["launch", "a b"], '"a b" cannot be the name of a machine: use letters, digits and hyphens'),
        (["prepare", "a,b"], '"a,b" names no machine'),
        (["prepare", "debian@192.0.2.10", "-e", "bcm_chain=main"], "-e bcm_chain=main is no variable of a host"),
    ],
)
def test_mistakes_are_named(checkout: Checkout, words: list[str], message: str) -> None:
    done = checkout.bcm("host", *words)
    assert done.returncode == 2
    assert message in done.stderr


def test_role_knows_what_the_command_knows() -> None:
    variables = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    assert tuple(variables["_host_sockets"]) == endpoint._SOCKETS
    assert dict(item.split("=") for item in variables["_host_quiet"]) == lxd_setup.QUIET


def test_rules_let_in_the_port_of_ssh_and_members() -> None:
    template = jinja2.Template((ROLE / "templates/host.nft.j2").read_text())
    rules = template.render(_host_port=2222, host_open_ports=[9735], host_members=["192.0.2.11", "2001:db8::1"])
    assert "tcp dport { 2222, 9735 } accept" in rules
    assert "ip saddr 192.0.2.11 accept" in rules and "ip6 saddr 2001:db8::1 accept" in rules


def test_swap_counts_as_encrypted_only_on_an_encrypted_device(tmp_path: Path) -> None:
    file = tmp_path / "swapfile"
    file.write_text("")
    programs = {
        "swapon": f"printf '%s\\n' /dev/sda2 /dev/zram0 /dev/dm-1 /dev/dm-2 {file}",
        "findmnt": "echo /dev/sda1",
        "lsblk": 'case "$*" in *dm-1) printf "%s\\n" crypt part disk ;; *) printf "%s\\n" lvm part disk ;; esac',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [ROLE / "files/unencrypted_swap.sh"], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["/dev/sda2", "/dev/dm-2", str(file)]


class _Cluster:
    """A server as LXD 5.0 answers; of its members, "two" is off."""

    def __init__(self, *members: str) -> None:
        self.server = {"environment": {"server_clustered": bool(members), "server_name": "one"}}
        self._members = members
        self.project = "bcm-office-regtest"

    def get(self, path: str, **params: Any) -> Any:
        if path == "/1.0/cluster/members":
            states = {"two": "Offline"}
            return [
                {"server_name": name, "status": states.get(name, "Online"), "roles": ["database"]}
                for name in self._members
            ]
        if path == "/1.0/instances":
            places = {"tor": "one", "bitcoind": "two"} if self._members else {"tor": "none", "bitcoind": "none"}
            ours = [{"name": name, "location": place, "project": self.project} for name, place in places.items()]
            return [*ours, {"name": "web", "location": places["tor"], "project": "default"}]
        if params.get("target", "one") == "two":
            raise Unreachable("two", "does not answer")
        if path == "/1.0/resources":
            return {"cpu": {"total": 4}, "memory": {"total": 8_000_000_000, "used": 2_000_000_000}}
        assert path == "/1.0/storage-pools/default/resources"
        return {"space": {"total": 50_000_000_000, "used": 0}}


def test_members_are_listed_with_what_runs_where() -> None:
    client: Any = _Cluster("one", "two")
    rows = members.list_members(client, "default")
    assert [(row["host"], row["state"], row["roles"], row["stacks"], row["others"]) for row in rows] == [
        ("one", "Online", ["database"], ["tor"], ["default/web"]),
        ("two", "Offline", ["database"], ["bitcoind"], []),
    ]
    assert [(row["cpus"], row["pool_free"]) for row in rows] == [(4, 50_000_000_000), (None, None)]


def test_machine_without_a_cluster_is_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(members, "connect", lambda _datacenter: contextlib.nullcontext(_Cluster()))
    args = SimpleNamespace(datacenter=SimpleNamespace(storage_pool="default"), json=False)
    assert members.status(args) == 0  # type: ignore[arg-type]
    (row,) = capsys.readouterr().out.splitlines()[1:]
    assert re.split(r" {2,}", row.rstrip()) == [
        "one", "Online", "-", "4", "6.0 GB of 8.0 GB", "50.0 GB of 50.0 GB", "bitcoind, tor", "default/web",
    ]  # fmt: skip
