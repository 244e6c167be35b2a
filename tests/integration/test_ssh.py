# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints of ssh, against an instance that plays another machine: its sshd, and at the usual place LXD's socket."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import Command, run
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from ansible_collections.bcm.core.plugins.module_utils._lxd.instance_handler import addresses
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import Unreachable
from tests.cli.conftest import changing, checkout_at
from tests.integration.conftest import apply
from tests.support import LXD_DIR, Tools

pytestmark = pytest.mark.containers

NAME = "bcm-test-ssh"
NETWORK = "bcmtestssh"
SSHD = """\
set -e
apt-get -o Acquire::Check-Valid-Until=false update
DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends openssh-server
install -d -m 700 /root/.ssh
cat > /root/.ssh/authorized_keys
mkdir -p /var/lib/lxd
useradd --create-home alice
install -d -o alice -g alice -m 700 /home/alice/.ssh
install -o alice -g alice -m 600 /root/.ssh/authorized_keys /home/alice/.ssh
# packages start nothing in an instance of the base
systemctl start ssh
"""


@dataclass(frozen=True)
class Machine:
    """The address of the other machine, and the folder with our key, our known hosts and our tunnels."""

    address: str
    folder: Path

    @property
    def url(self) -> str:
        return f"ssh://root@{self.address}"

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


def _commanded(client: Client, script: str, stdin: bytes = b"") -> bytes:
    done = run(client, NAME, Command(["sh", "-c", script], stdin=stdin), deadline=300)
    if done.returncode:
        pytest.fail(f"{done.stdout.decode()}{done.stderr.decode()}", pytrace=False)
    return done.stdout


@pytest.fixture(scope="module")
def machine(
    client: Client, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("ssh")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    network = {"kind": "network", "name": NETWORK}
    devices = {
        "root": {"type": "disk", "pool": variables["bcm_test_pool"], "path": "/"},
        "eth0": {"type": "nic", "network": NETWORK},
    }
    item = {"kind": "instance", "name": NAME, "image": variables["bcm_test_image"], "state": "started"}
    try:
        config = {"ipv4.address": "10.211.5.1/24", "ipv4.nat": True, "ipv6.address": "none"}
        apply(client, {**network, "config": config}, {**item, "devices": devices, "wait_for": "address"})
        _commanded(client, SSHD, (folder / "key.pub").read_bytes())
        # The machine has LXD where the package puts it, for root alone.
        socket = {
            "type": "proxy",
            "bind": "instance",
            "mode": "0600",
            "listen": "unix:/var/lib/lxd/unix.socket",
            "connect": f"unix:{LXD_DIR}/unix.socket",
        }
        apply(client, {**item, "devices": {**devices, "socket": socket}})
        address = addresses(client.get(f"/1.0/instances/{NAME}/state"), ["inet"])[0]
        host_key = _commanded(client, "cat /etc/ssh/ssh_host_ed25519_key.pub").decode()
        (folder / "known_hosts").write_text(f"{address} {host_key}")
        yield Machine(address, folder)
    finally:
        apply(client, {**network, "state": "absent"}, {**item, "state": "absent", "force_stop": True})


@pytest.fixture(autouse=True)
def own_ssh(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ssh with a person's settings of its own, as ~/.ssh/config has them, and no tunnel left over."""
    config = machine.folder / "config"
    config.write_text(
        f"IdentityFile {machine.folder}/key\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {machine.folder}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
    )
    program = machine.folder / "bin/ssh"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(machine.folder))
    yield
    for control in machine.folder.glob("bcm-*/*.ctl"):
        subprocess.run(["ssh", "-S", control, "-O", "exit", machine.address], capture_output=True, check=False)


def test_the_socket_is_found_where_packages_put_it(machine: Machine, client: Client) -> None:
    with Client(machine.url) as over_ssh:
        assert over_ssh.server["environment"]["certificate"] == client.server["environment"]["certificate"]


def test_a_socket_that_is_named(machine: Machine) -> None:
    with Client(f"ssh://root@{machine.address}:22/var/lib/lxd/unix.socket") as over_ssh:
        assert over_ssh.get("/1.0/instances")


def test_commands_and_files(machine: Machine, instance: str) -> None:
    with Client(machine.url) as over_ssh:
        done = run(over_ssh, instance, Command(["sh", "-c", "cat; exit 7"], stdin=b"x" * 1_000_000))
        assert (done.returncode, done.stdout) == (7, b"x" * 1_000_000)
        with FileSession(over_ssh, instance) as files:
            files.write("/root/over-ssh", b"here", mode=0o600, uid=0, gid=0)
            assert files.read("/root/over-ssh") == b"here"
            files.remove("/root/over-ssh")


def test_one_connection_serves_many_clients_and_processes(machine: Machine) -> None:
    with Client(machine.url) as first, Client(machine.url) as second:
        assert first.endpoint.socket_path == second.endpoint.socket_path
        assert first.get("/1.0/instances") == second.get("/1.0/instances")
    (master,) = machine.masters()
    module = ("ansible", "localhost", "--module-name=bcm.core.lxd_info", "--args=kind=server")
    assert "api_extensions" in Tools({"BCM_ENDPOINT": machine.url}).run(*module)
    assert machine.masters() == [master]


def test_data_center_on_that_machine(machine: Machine, tmp_path: Path) -> None:
    checkout = checkout_at(tmp_path / "bcm")
    assert checkout.bcm("datacenter", "create", "far", "--like", "ssh").returncode == 0

    def bcm(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [checkout.home / "bcm", "--yes", "-d", "far", *words], cwd=checkout.home, env=checkout.environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip

    done = bcm("config", "set", f"endpoint={machine.url}", "tor_source=debian")
    assert done.returncode == 0, done.stderr
    try:
        first, again = bcm("stack", "start", "tor"), bcm("stack", "start", "tor")
        assert first.returncode == 0, first.stdout + first.stderr
        assert again.stdout.rstrip().endswith("nothing changed"), again.stdout + again.stderr
        facts, status = (json.loads(bcm(*words, "--json").stdout) for words in (["info"], ["stack", "status"]))
        assert (facts["endpoint"], facts["stacks"]) == (machine.url, ["tor"])
        assert {row["stack"]: row["status"] for row in status["stacks"]}["tor"] == "running"
        with changing("far"):
            refused = bcm("stack", "start", "tor")
        assert refused.returncode == 2
        assert "is being changed by" in refused.stdout
    finally:
        removed = bcm("stack", "remove", "tor", "--delete-data")
    assert removed.returncode == 0, removed.stdout + removed.stderr
    assert len(machine.masters()) == 1


def test_lost_connection_is_replaced(machine: Machine) -> None:
    with Client(machine.url) as over_ssh:
        (master,) = machine.masters()
        os.kill(master, 9)
        end = time.monotonic() + 10
        while machine.masters():
            assert time.monotonic() < end, "the master does not die"
            time.sleep(0.01)
        with pytest.raises(Unreachable, match=f"No answer at {machine.url}: check that LXD is running there"):
            over_ssh.get("/1.0")
    with Client(machine.url) as over_ssh:
        assert over_ssh.get("/1.0")
    assert len(machine.masters()) == 1


def test_damaged_tunnel_is_replaced(machine: Machine) -> None:
    with Client(machine.url) as over_ssh:
        os.unlink(over_ssh.endpoint.socket_path or "")
    with Client(machine.url) as over_ssh:
        assert over_ssh.get("/1.0")
    assert len(machine.masters()) == 1


def test_port_without_a_listener_is_reported(machine: Machine) -> None:
    with pytest.raises(Unreachable) as caught:
        Client(f"{machine.url}:2222")
    assert str(caught.value) == (
        f"Failed to reach {machine.url}:2222 by SSH: ssh: connect to host {machine.address} port 2222: "
        f"Connection refused (try `ssh -p 2222 root@{machine.address}` by hand)"
    )


def test_host_with_an_unknown_name_is_reported(machine: Machine) -> None:
    known = machine.folder / "known_hosts"
    text = known.read_text()
    known.write_text("")
    try:
        with pytest.raises(Unreachable) as caught:
            Client(machine.url)
    finally:
        known.write_text(text)
    assert str(caught.value) == (
        f"Failed to reach {machine.url} by SSH: Host key verification failed. "
        f"(try `ssh root@{machine.address}` by hand)"
    )


def test_refused_login_is_reported(machine: Machine) -> None:
    with pytest.raises(Unreachable, match=r"by SSH: bob@.*: Permission denied \(publickey.* \(try `ssh bob@"):
        Client(f"ssh://bob@{machine.address}")


def test_missing_permission_on_the_socket_is_reported(machine: Machine) -> None:
    url = f"ssh://alice@{machine.address}/var/lib/lxd/unix.socket"
    message = f"^{url} closed the connection: check that LXD is running there"
    with Client(url) as over_ssh, pytest.raises(Unreachable, match=message):
        over_ssh.get("/1.0")


def test_a_machine_without_lxd(machine: Machine, client: Client) -> None:
    _commanded(client, "mv /var/lib/lxd/unix.socket /root/elsewhere")
    try:
        message = f"^{machine.url}: no LXD or Incus socket on that machine; install LXD there$"
        with pytest.raises(Unreachable, match=message):
            Client(machine.url)
    finally:
        _commanded(client, "mv /root/elsewhere /var/lib/lxd/unix.socket")
    with Client(machine.url) as over_ssh:
        assert over_ssh.get("/1.0")


def test_a_machine_that_does_not_answer(machine: Machine, client: Client) -> None:
    listen = "import socket, time; s = socket.create_server(('', 22)); time.sleep(60)"
    mute = f'systemd-run --quiet --unit=mute python3 -c "{listen}"'
    listens = "until grep -q ':0016 .* 0A ' /proc/net/tcp; do sleep 0.1; done"
    _commanded(client, f"systemctl stop ssh.socket ssh.service && {mute} && {listens}")
    begun = time.monotonic()
    try:
        with pytest.raises(Unreachable, match=f"Failed to reach {machine.url} by SSH: "):
            Client(machine.url, timeout=2)
    finally:
        _commanded(client, "systemctl stop mute; systemctl start ssh.socket")
    assert time.monotonic() - begun < 15
