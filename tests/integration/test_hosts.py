# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bare machine is prepared over SSH: an instance plays it, with systemd, sshd and a disk. One test goes on from the
one before it, as days do.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests.cli.conftest import Checkout, checkout_at
from tests.integration.machines import Machine, other_machine
from tests.support import ROOT

pytestmark = [pytest.mark.containers, pytest.mark.apart]

_DISK_GIB = 9


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A block device with a file system on it."""
    file = tmp_path_factory.mktemp("disk") / "disk"
    with file.open("wb") as opened:
        opened.truncate(_DISK_GIB * 2**30)
    subprocess.run(["mkfs.btrfs", "--quiet", file], check=True)
    found = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=True)
    yield found.stdout.strip()
    subprocess.run(["losetup", "--detach", found.stdout.strip()], check=True)


@pytest.fixture(scope="module")
def machine(
    client: Client, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory, disk: str
) -> Iterator[Machine]:
    # Only a privileged instance may mount the pool.
    more = {
        "config": {"security.privileged": "true", "security.nesting": "true"},
        "devices": {"disk": {"type": "unix-block", "source": disk, "path": disk}},
    }
    folder = tmp_path_factory.mktemp("host")
    with other_machine(client, variables, folder, "bcm-test-host", "10.211.6.1/24", **more) as machine:
        # The base of instances starts nothing that a package installs; other machines do.
        machine.run("rm /usr/sbin/policy-rc.d /etc/systemd/system-preset/00-bcm.preset && apt-get install -y sudo")
        yield machine
        machine.run("lxc storage delete default || true; umount --all --types btrfs || true")


@pytest.fixture
def checkout(machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Checkout]:
    machine.own_ssh(monkeypatch, os.environ["PATH"])
    yield checkout_at(tmp_path / "bcm")
    machine.close_tunnels()


def _host(checkout: Checkout, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout.home / "bcm", "host", *words], cwd=checkout.home, env={**checkout.environment, **more},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip


def _prepare(checkout: Checkout, *words: str) -> subprocess.CompletedProcess[str]:
    return _host(checkout, "prepare", *words)


def _refused(checkout: Checkout, *words: str) -> str:
    done = _prepare(checkout, "--yes", *words)
    assert done.returncode, done.stdout
    assert "nothing would change" in done.stdout, done.stdout
    return done.stdout


def test_key_is_shown_and_accepted_before_anything_is_sent(checkout: Checkout, machine: Machine) -> None:
    known = machine.folder / "known_hosts"
    done = _prepare(checkout, f"alice@{machine.address}")
    assert done.returncode == 1
    fingerprint = machine.run("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert f"The key of alice@{machine.address} is {fingerprint}: compare it with" in done.stderr
    assert done.stderr.rstrip().endswith("was not accepted: run it on a terminal, or add --yes")
    assert not known.exists()


def test_user_who_cannot_become_root_is_refused(checkout: Checkout, machine: Machine) -> None:
    said = _refused(checkout, f"alice@{machine.address}")
    assert "alice cannot become root without a password: log in as root, or let sudo trust alice" in said
    (line,) = (machine.folder / "known_hosts").read_text().splitlines()
    assert line.split()[1:] == machine.host_key().split()[:2]
    machine.run("echo 'alice ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/alice")


def test_machine_that_is_not_what_is_needed_is_refused(checkout: Checkout, machine: Machine, disk: str) -> None:
    target = f"alice@{machine.address}"
    machine.run("apt-get install -y python3-apt")
    assert "add memory, free some space, or name" in _refused(checkout, target, "-e", "host_memory_mib=99000000")
    assert f"{disk} is not empty (btrfs): name another one" in _refused(checkout, target, "--device", disk)
    assert "/etc/fstab is not a block device" in _refused(checkout, target, "--device", "/etc/fstab")
    machine.run("rm /etc/os-release; printf 'ID=debian\\nVERSION_ID=11\\n' > /etc/os-release")
    try:
        said = _refused(checkout, target)
    finally:
        machine.run("ln -sf ../usr/lib/os-release /etc/os-release")
    assert "This is debian 11: prepare a machine with Debian 12 or Ubuntu 24.04, or newer" in said


def test_bare_machine_becomes_an_endpoint(checkout: Checkout, machine: Machine, disk: str) -> None:
    target = f"alice@{machine.address}"
    subprocess.run(["wipefs", "--quiet", "--all", disk], check=True)
    before = machine.run("dpkg-query --show; ls -A /etc /run/systemd/system; getent group")
    planned = _prepare(checkout, target, "--check", "--diff", "--device", disk)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert machine.run("dpkg-query --show; ls -A /etc /run/systemd/system; getent group") == before

    # as documented for those who do without bcm, whose preparation the next test sees
    told = json.dumps({"host": target, "host_pool_device": disk})
    environment = {**checkout.environment, "ANSIBLE_STDOUT_CALLBACK": "bcm.core.progress"}
    done = subprocess.run(
        [checkout.home / ".venv/bin/ansible-playbook", "-i", ",", "-e", told, "bcm.core.prepare_host"],
        cwd=checkout.home, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    steps = [re.findall(r"^ +[0-9:]+    .*: (.*)", run.stdout, re.M) for run in (planned, done)]
    assert steps[0] == steps[1] != []

    with Client(f"ssh://{target}") as lxd:
        assert lxd.server["config"]["core.proxy_https"] == "http://127.0.0.1:9"
        (pool,) = lxd.get("/1.0/storage-pools?recursion=1")
        assert (pool["name"], pool["driver"]) == ("default", "btrfs")
    for command in ("systemctl is-enabled lxd bcm-host-firewall", "test -e /etc/apt/apt.conf.d/52bcm"):
        machine.run(command)


def test_firewall_lets_in_ssh_and_what_is_opened(checkout: Checkout, machine: Machine) -> None:
    target = f"alice@{machine.address}"
    machine.run("systemd-run --quiet --unit=listens python3 -m http.server 8080")
    with pytest.raises(TimeoutError):
        socket.create_connection((machine.address, 8080), timeout=2)
    machine.run("nft delete table inet bcm_host")
    opened = _prepare(checkout, "--yes", target, "-e", "host_open_ports=[8080]")
    assert opened.returncode == 0, opened.stdout
    socket.create_connection((machine.address, 8080), timeout=5).close()
    with pytest.raises(TimeoutError):
        socket.create_connection((machine.address, 8081), timeout=2)
    machine.run("! systemctl is-active bcm-host-firewall-undo.timer")


def test_daemon_of_others_is_left_alone(checkout: Checkout, machine: Machine) -> None:
    target = f"alice@{machine.address}"
    machine.run("lxc init --empty --storage default web")
    assert "lxd has instances that are not those of a data center (default/web: Stopped)" in _refused(checkout, target)
    shared = _prepare(checkout, "--yes", target, "--shared", "-e", "host_open_ports=[8080]")
    assert re.findall(r"(nothing \S.*)", shared.stdout) == ["nothing would change", "nothing changed"], shared.stdout
    machine.run("lxc delete web")
    assert "lxd is there already: leave host_daemon out" in _refused(checkout, target, "--daemon", "incus")


def test_machine_with_another_key_is_refused(checkout: Checkout, machine: Machine) -> None:
    known = machine.folder / "known_hosts"
    text = known.read_text()
    key = machine.folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    known.write_text(f"{machine.address} {key.with_suffix('.pub').read_text()}")
    try:
        done = _prepare(checkout, "--yes", f"alice@{machine.address}")
    finally:
        known.write_text(text)
    assert done.returncode
    assert "Host key verification failed" in done.stdout


def test_machine_of_multipass_is_launched_and_prepared(checkout: Checkout, machine: Machine) -> None:
    """With a double of multipass, whose machine is this one; all that is behind it is real."""
    home = machine.folder / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id_ed25519.pub").write_text((machine.folder / "key.pub").read_text())
    programs = machine.folder / "bin"
    (programs / "multipass").symlink_to(ROOT / "tests/programs/multipass_as_documented.py")
    (programs / "snap").symlink_to("/bin/true")
    (programs / "address").write_text(machine.address)
    (programs / "host_key").write_text(machine.host_key())
    (machine.folder / "known_hosts").write_text("")
    machine.run(
        "useradd --create-home ubuntu; cp -r /root/.ssh /home/ubuntu; chown -R ubuntu /home/ubuntu/.ssh;"
        "echo 'ubuntu ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/ubuntu"
    )
    launched = _host(checkout, "launch", "box", "--memory", "8G", HOME=str(home))
    assert launched.returncode == 0, launched.stdout + launched.stderr
    asked = (programs / "asked").read_text().splitlines()
    assert "launch 24.04 --name box --cpus 2 --memory 8G --disk 40G --cloud-init -" in asked
    machine.run("apt-get install -y --no-install-recommends cloud-init")
    machine.run("cat > user-data && cloud-init schema --config-file user-data", (programs / "user-data").read_bytes())
    assert checkout.bcm("datacenter", "create", "vm", "--like", "multipass").returncode == 0
    assert checkout.bcm("-d", "vm", "config", "set", "multipass_name=box").returncode == 0
    endpoint = checkout.bcm("-d", "vm", "config", "get", "endpoint").stdout.strip()
    with Client(endpoint) as lxd:
        assert lxd.get("/1.0/storage-pools")


def test_machine_of_an_endpoint_is_listed(checkout: Checkout, machine: Machine) -> None:
    assert checkout.bcm("datacenter", "create", "far", "--like", "ssh").returncode == 0
    assert checkout.bcm("-d", "far", "config", "set", f"endpoint=ssh://alice@{machine.address}").returncode == 0

    (row,) = json.loads(checkout.bcm("-d", "far", "host", "status", "--json").stdout)["hosts"]
    assert (row["host"], row["state"], row["stacks"]) == (machine.name, "Online", [])
    assert row["memory_used"] > 0
