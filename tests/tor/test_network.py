# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Onion services on a real Tor network: published, reached by those who may, and by nobody else."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import socks

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import ExecResult
from ansible_collections.bcm.core.plugins.module_utils._lxd.files import FileSession
from ansible_collections.bcm.core.plugins.module_utils._tor import onion_keys
from ansible_collections.bcm.core.plugins.module_utils._tor.deploy import DeployResult, deploy
from ansible_collections.bcm.core.plugins.module_utils._tor.services import Layout, Service
from tests.tornet import NO_KEY, WRONG_KEY, Client, Tor, TorNetwork

REFUSED = r"0xf|timed out"
DEADLINE = 90.0  # seconds for what takes less than 10


class Disk:
    """The part of SFTPClient that is used of it, on this machine."""

    chmod, chown, listdir, lstat, mkdir = os.chmod, os.chown, os.listdir, os.lstat, os.mkdir
    stat = os.stat
    posix_rename, remove, rmdir, open = os.rename, os.remove, os.rmdir, open


class Local(FileSession):
    """The files of this machine."""

    def __init__(self) -> None:
        self.instance = "tor"
        self.sftp: Any = Disk

    def write(self, path: str, content: bytes, *, mode: int, uid: int, gid: int) -> None:
        Path(path).write_bytes(content)
        os.chown(path, uid, gid)
        os.chmod(path, mode)


class Machine:
    """This machine as a host of onion services."""

    def __init__(self, network: TorNetwork, name: str, *lines: str, reads: bool = True) -> None:
        directory = network.directory / name
        self.name, self.files = "tor", Local()
        self.layout = Layout(
            root=str(directory / "onions"),
            include=str(directory / "onions.d/services.conf"),
            published=str(directory / "onions.d/published.json"),
            torrc=str(directory / "torrc"),
            control=str(directory / "control"),
            owner=str(os.getuid()),
        )
        included = [f"%include {directory}/onions.d/*.conf"] if reads else []
        self.tor = network.tor(name, "SocksPort 0", *included, *lines)

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", deadline: float, owner: str | None = None) -> ExecResult:
        command = [sys.executable if argv[0] == "python3" else argv[0], *argv[1:]]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=deadline, check=False)
        return ExecResult(done.returncode, done.stdout, done.stderr)

    def deploy(self, *services: Service, check: bool = False, deadline: float = DEADLINE, **more: Any) -> DeployResult:
        return deploy(self, services, check=check, deadline=deadline, layout=self.layout, **more)

    def path(self, name: str, *more: str) -> Path:
        return Path(self.layout.directory(name), *more)


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """What is behind an onion address: it says hello."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    with listener.accept()[0] as connection:
                        connection.sendall(b"hello")

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def machine(tor_network: TorNetwork) -> Machine:
    machine = Machine(tor_network, "host")
    machine.tor.start()
    machine.tor.bootstrapped()
    return machine


def service(name: str, target: str, *clients: str, **options: Any) -> Service:
    made = {client: onion_keys.new_client() for client in clients}
    return Service(name, onion_keys.new_key(), {80: (target,)}, clients=made, **options)


def test_only_its_clients_reach_a_service(tor_network: TorNetwork, machine: Machine, target: str) -> None:
    web = service("web", target, "alice", "bob")
    address = web.key.address
    foreseen = machine.deploy(web, check=True)
    assert not Path(machine.layout.root).exists()
    done = machine.deploy(web)
    assert done.published == ["web"]
    assert (done.changed, done.files, done.diff) == (foreseen.changed, foreseen.files, foreseen.diff)
    assert not any(key.text in str(done.diff) for key in (web.key, *web.clients.values()))
    # what tor makes of the key
    assert machine.path("web", "hostname").read_text() == f"{address}\n"
    assert not machine.deploy(web).changed
    assert not machine.deploy(web, check=True).changed

    people = {
        "alice": [web.clients["alice"].client_line(address)],
        "bob": [web.clients["bob"].client_line(address)],
        "eve": [],
        "mallory": [onion_keys.new_client().client_line(address)],
    }
    clients = {name: Client(tor_network, name, *lines) for name, lines in people.items()}
    for client in clients.values():
        client.tor.bootstrapped()
    assert clients["alice"].get(address) == clients["bob"].get(address) == b"hello"
    for name, answer in (("eve", NO_KEY), ("mallory", WRONG_KEY)):
        with pytest.raises(socks.ProxyError, match=answer):
            clients[name].get(address)

    # another client: those there are stay connected, so it is not taken away
    more = dataclasses.replace(web, clients={**web.clients, "carol": onion_keys.new_client()})
    assert machine.deploy(more).published == ["web"]
    carol = Client(tor_network, "carol", more.clients["carol"].client_line(address))
    carol.tor.bootstrapped()
    assert carol.get(address) == b"hello"

    # bob knows its introduction points, yet is cut off
    less = dataclasses.replace(more, clients={"alice": more.clients["alice"]})
    assert clients["bob"].get(address) == b"hello"
    assert machine.deploy(less).published == ["web"]
    assert not machine.path("web", "authorized_clients/bob.auth").exists()
    # who remembers the descriptor of before may try the introduction points in it until he gives up
    with pytest.raises(socks.ProxyError, match=REFUSED):
        clients["bob"].connected(address, within=30)
    assert clients["alice"].get(address) == b"hello"

    # the last client as well: it is not open to everybody then
    assert machine.deploy(dataclasses.replace(less, clients={})).published == ["web"]
    for name in ("alice", "eve"):
        with pytest.raises(socks.ProxyError, match=REFUSED):
            clients[name].connected(address, within=30)

    # everything is lost: the next run brings the same address back
    before = machine.deploy(less)
    assert before.published == ["web"]
    machine.tor.stop()
    shutil.rmtree(machine.layout.root)
    shutil.rmtree(Path(machine.layout.include).parent)
    shutil.rmtree(machine.tor.directory / "data")
    machine.tor.start()
    machine.tor.bootstrapped()
    assert machine.deploy(less).published == ["web"]
    assert clients["alice"].get(address) == b"hello"


def test_twenty_services_in_one_batch(machine: Machine, target: str) -> None:
    many = [service(f"s{number}", target, authorization=bool(number % 2)) for number in range(20)]
    assert sorted(machine.deploy(*many).published) == sorted(one.name for one in many)
    assert {path.name for path in Path(machine.layout.root).iterdir()} == {one.name for one in many}
    again = machine.deploy(*many)
    assert (again.changed, again.files, again.diff) == (False, [], [])


def test_descriptor_is_uploaded_when_its_contents_change(machine: Machine, target: str) -> None:
    web = service("web", target)
    machine.deploy(web)
    with_work = dataclasses.replace(web, pow=True)
    assert machine.deploy(with_work).published == ["web"]
    # nothing of it is in the descriptor
    other_port = dataclasses.replace(with_work, ports={81: (target, target.replace("127.0.0.1", "127.0.0.2"))})
    done = machine.deploy(other_port)
    assert (done.changed, done.published) == (True, [])
    # another key
    other = dataclasses.replace(other_port, key=onion_keys.new_key())
    assert machine.deploy(other).published == ["web"]
    assert machine.path("web", "hostname").read_text() == f"{other.key.address}\n"


def test_a_run_that_was_killed_is_healed(machine: Machine, target: str) -> None:
    web = service("web", target)
    machine.deploy(web)
    Path(machine.layout.published).unlink()
    done = machine.deploy(web)
    assert (done.changed, done.files, done.published) == (True, [], ["web"])


class Disturbed(Machine):
    """A machine on which somebody else has tor read its configuration, just before we do."""

    uploaded = False

    def run(self, argv: Sequence[str], **more: Any) -> ExecResult:
        done = super().run(argv, **more)
        if argv[0] == "tor" and not self.uploaded:  # its configuration was verified, and is complete
            with self.tor.control() as control:
                control.setevents("HS_DESC", "SIGNAL")
                control.reload(time.monotonic() + DEADLINE)
                while " UPLOADED " not in control.event(time.monotonic() + DEADLINE).text:
                    pass
                self.uploaded = True
        return done


def test_service_that_another_reload_published_is_published_again(tor_network: TorNetwork, target: str) -> None:
    machine = Disturbed(tor_network, "disturbed")
    machine.tor.start()
    machine.tor.bootstrapped()
    assert machine.deploy(service("web", target), one_try=10.0).published == ["web"]
    assert machine.uploaded
    machine.tor.stop()


def test_missed_deadline_is_reported_and_completed_by_the_next_run(machine: Machine, target: str) -> None:
    web = service("web", target)
    said = r"^tor in instance tor did not upload the descriptors of web within 0.05 s: its network is up, "
    with pytest.raises(BcmError, match=said):
        machine.deploy(web, deadline=0.05)
    # whatever tor did meanwhile, the next run completes it
    assert machine.deploy(web).published == ["web"]


def test_wrong_permissions_are_put_right_before_tor_sees_them(machine: Machine, target: str) -> None:
    web = service("web", target)
    machine.deploy(web)
    machine.path("web").chmod(0o755)
    machine.path("web", "hs_ed25519_secret_key").chmod(0o644)
    done = machine.deploy(web)
    assert done.files == [str(machine.path("web")), str(machine.path("web", "hs_ed25519_secret_key"))]
    assert stat.S_IMODE(machine.path("web").stat().st_mode) == 0o700
    assert done.published == ["web"]


def test_tor_keeps_running_if_it_would_not_take_its_configuration(machine: Machine, target: str) -> None:
    web = service("web", target)
    machine.deploy(web)
    before = Path(machine.layout.include).read_text()
    torrc = machine.tor.torrc.read_text()
    machine.tor.torrc.write_text(f"{torrc}NoSuchOption 1\n")
    with pytest.raises(BcmError, match=r"^tor in instance tor does not take its configuration.*NoSuchOption"):
        machine.deploy(web, service("other", target))
    assert Path(machine.layout.include).read_text() == before
    machine.tor.torrc.write_text(torrc)
    assert machine.deploy(web).changed


def test_services_are_published_once_tor_uses_its_network(tor_network: TorNetwork, target: str) -> None:
    machine = Machine(tor_network, "offline", "DisableNetwork 1")
    web = service("web", target)
    with pytest.raises(BcmError, match=r"^In instance tor tor is not running: nothing answers at .*/control"):
        machine.deploy(web)
    machine.tor.start()
    machine.tor.control().close()
    done = machine.deploy(web)
    assert (done.changed, done.network, done.published) == (True, False, [])
    assert not machine.deploy(web).changed
    # with the network it is proved
    machine.tor.stop()
    machine.tor.torrc.write_text(machine.tor.torrc.read_text().replace("DisableNetwork 1", "DisableNetwork 0"))
    machine.tor.start()
    machine.tor.bootstrapped()
    assert machine.deploy(web).published == ["web"]
    machine.tor.stop()


def test_unreachable_network_is_reported(tor_network: TorNetwork, target: str) -> None:
    machine = Machine(tor_network, "lost", "Socks5Proxy 127.0.0.1:9")
    machine.tor.start()
    machine.tor.control().close()
    with pytest.raises(BcmError, match=r"has not reached its network after 2 s, it is at \d+ % \(.+its clock is right"):
        machine.deploy(service("web", target), deadline=2)
    machine.tor.stop()


def test_torrc_without_the_include_line_is_reported(tor_network: TorNetwork, target: str) -> None:
    machine = Machine(tor_network, "deaf", "DisableNetwork 1", reads=False)
    machine.tor.start()
    machine.tor.control().close()
    with pytest.raises(BcmError, match=r"does not read .*services.conf: put the line %include .*onions.d/\*.conf into"):
        machine.deploy(service("web", target))
    machine.tor.stop()


def test_keys_that_tor_created_are_read(tor_network: TorNetwork, target: str) -> None:
    directory = tor_network.directory / "maker/own"
    maker: Tor = tor_network.tor(
        "maker", "SocksPort 0", "DisableNetwork 1", f"HiddenServiceDir {directory}", f"HiddenServicePort 80 {target}"
    )
    maker.start()
    maker.control().close()
    files = [(directory / f"hs_ed25519_{kind}_key").read_bytes() for kind in ("secret", "public")]
    hostname = (directory / "hostname").read_text()
    key = onion_keys.check_files("own", files[0], files[1], hostname)
    assert (key.address, key.secret_file, key.public_file) == (hostname.strip(), *files)
    maker.stop()
