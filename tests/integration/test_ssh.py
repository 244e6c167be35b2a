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
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import Command, run
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import Unreachable
from tests.cli.conftest import changing, checkout_at
from tests.integration.conftest import apply
from tests.integration.machines import Machine, other_machine
from tests.support import LXD_DIR, PATIENCE, Tools, until

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def machine(client: Client, variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    # The machine has LXD where the package puts it, for root alone.
    socket = {
        "type": "proxy",
        "bind": "instance",
        "mode": "0600",
        "listen": "unix:/var/lib/lxd/unix.socket",
        "connect": f"unix:{LXD_DIR}/unix.socket",
    }
    folder = tmp_path_factory.mktemp("ssh")
    with other_machine(client, variables, folder, "bcm-test-ssh", "10.211.5.1/24") as machine:
        machine.run("mkdir -p /var/lib/lxd")
        instance = client.get(f"/1.0/instances/{machine.name}")
        devices = {**instance["devices"], "socket": socket}
        item = {"kind": "instance", "name": machine.name, "image": variables["bcm_test_image"], "state": "started"}
        apply(client, {**item, "devices": devices})
        (folder / "known_hosts").write_text(f"{machine.address} {machine.host_key()}")
        yield machine


@pytest.fixture(autouse=True)
def own_ssh(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ssh with settings of its own, and no tunnel left over."""
    machine.own_ssh(monkeypatch, os.environ["PATH"])
    yield
    machine.close_tunnels()


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
        until(lambda: not machine.masters(), "the end of the master")
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


def test_a_machine_without_lxd(machine: Machine) -> None:
    machine.run("mv /var/lib/lxd/unix.socket /root/elsewhere")
    try:
        message = f"^{machine.url}: no LXD or Incus socket on that machine; install LXD there$"
        with pytest.raises(Unreachable, match=message):
            Client(machine.url)
    finally:
        machine.run("mv /root/elsewhere /var/lib/lxd/unix.socket")
    with Client(machine.url) as over_ssh:
        assert over_ssh.get("/1.0")


def test_a_machine_that_does_not_answer(machine: Machine) -> None:
    listen = "import socket, time; s = socket.create_server(('', 22)); time.sleep(600)"
    mute = f'systemd-run --quiet --unit=mute python3 -c "{listen}"'
    listens = "until grep -q ':0016 .* 0A ' /proc/net/tcp; do sleep 0.1; done"
    machine.run(f"systemctl stop ssh.socket ssh.service && {mute} && {listens}")
    begun = time.monotonic()
    try:
        with pytest.raises(Unreachable, match=f"Failed to reach {machine.url} by SSH: "):
            Client(machine.url, timeout=2)
    finally:
        machine.run("systemctl stop mute; systemctl start ssh.socket")
    assert time.monotonic() - begun < PATIENCE
