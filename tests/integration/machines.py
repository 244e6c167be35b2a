# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Instances that play other machines: Debian with sshd, on a network of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import Command, run
from ansible_collections.bcm.core.plugins.module_utils._lxd.instance_handler import addresses
from tests.integration.conftest import apply

_SSHD = """\
set -e
echo 'Acquire::Check-Valid-Until "false";' > /etc/apt/apt.conf.d/99test
apt-get update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends openssh-server
install -d -m 700 /root/.ssh
cat > /root/.ssh/authorized_keys
useradd --create-home alice
install -d -o alice -g alice -m 700 /home/alice/.ssh
install -o alice -g alice -m 600 /root/.ssh/authorized_keys /home/alice/.ssh
# packages start nothing in an instance of the base
systemctl start ssh
"""


@dataclass(frozen=True)
class Machine:
    """The address of another machine, and the folder with our key, our known hosts and our tunnels."""

    client: Client
    name: str
    address: str
    folder: Path

    @property
    def url(self) -> str:
        return f"ssh://root@{self.address}"

    def run(self, script: str, stdin: bytes = b"") -> str:
        """The output of a script on it, without SSH; its failure fails the test."""
        done = run(self.client, self.name, Command(["sh", "-c", script], stdin=stdin), deadline=300)
        if done.returncode:
            pytest.fail(f"{done.stdout.decode()}{done.stderr.decode()}", pytrace=False)
        return done.stdout.decode()

    def host_key(self) -> str:
        return self.run("cat /etc/ssh/ssh_host_ed25519_key.pub")

    def own_ssh(self, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
        """Give ssh a person's settings of its own, as ~/.ssh/config has them; ``path`` is where programs are."""
        config = self.folder / "config"
        config.write_text(
            f"IdentityFile {self.folder}/key\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.folder}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
        )
        program = self.folder / "bin/ssh"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{path}")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(self.folder))

    def close_tunnels(self) -> None:
        for control in self.folder.glob("bcm-*/*.ctl"):
            subprocess.run(["ssh", "-S", control, "-O", "exit", self.address], capture_output=True, check=False)

    def masters(self) -> list[int]:
        """Processes of ssh that hold a tunnel of ours open."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if str(self.folder).encode() in words and (b"\0-M\0" in words or b"[mux]" in words):
                found.append(int(process.name))
        return found


@contextmanager
def other_machine(
    client: Client, variables: Mapping[str, str], folder: Path, name: str, address: str, **more: Any
) -> Iterator[Machine]:
    """Yield a machine with sshd, which lets root and alice in with our key, and whose key is not known yet.

    ``address`` is that of the host in its network, with the length of the prefix; ``more`` is of the instance.
    """
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    network = {"kind": "network", "name": name.replace("-", "")}
    devices = {
        "root": {"type": "disk", "pool": variables["bcm_test_pool"], "path": "/"},
        "eth0": {"type": "nic", "network": network["name"]},
        **more.pop("devices", {}),
    }
    item = {"kind": "instance", "name": name, "image": variables["bcm_test_image"], "state": "started"}
    try:
        config = {"ipv4.address": address, "ipv4.nat": True, "ipv6.address": "none"}
        instance = {**item, "devices": devices, "wait_for": "address", **more}
        apply(client, {**network, "config": config}, instance)
        machine = Machine(client, name, addresses(client.get(f"/1.0/instances/{name}/state"), ["inet"])[0], folder)
        machine.run(_SSHD, (folder / "key.pub").read_bytes())
        yield machine
    finally:
        apply(client, {**network, "state": "absent"}, {**item, "state": "absent", "force_stop": True})
