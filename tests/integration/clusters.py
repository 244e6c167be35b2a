# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several LXD daemons that can become one cluster, each with a network of its own as on a machine of its own."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from bcm_cli import lxd_setup
from tests import isolation
from tests.support import stop_lxd

_BRIDGE = "bcmmembers"
_START_SECONDS = 60
_DAEMON = f"""{isolation.OWN_SYSFS}
sysctl --quiet --write net.ipv4.ip_forward=1
exec lxd --group root --logfile "$LXD_DIR/bcm.log"
"""


@dataclass
class Daemon:
    """A LXD daemon: its folder, its address, and its process."""

    folder: Path
    address: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"unix://{self.folder}/unix.socket"

    def client(self) -> Client:
        return Client(self.endpoint)

    @property
    def _network(self) -> str:
        return f"member{self.address.rpartition('.')[2]}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(mode=0o711, exist_ok=True)
        words = ["nsenter", f"--net=/run/netns/{self._network}", "unshare", "--mount", "sh", "-c", _DAEMON]
        self.process = subprocess.Popen(
            words, env={**os.environ, **lxd_setup.QUIET_ENVIRONMENT, "LXD_DIR": str(self.folder)},
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + _START_SECONDS
        while True:
            try:
                with self.client() as client:
                    client.check_trust()
                return
            except LxdError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)

    def connect(self) -> None:
        """Give it a network, with an address in that of all."""
        commands = f"""
            ip netns add {self._network}
            ip link add {self._network} type veth peer name eth0 netns {self._network}
            ip link set {self._network} master {_BRIDGE} up
            ip -n {self._network} link set lo up
            ip -n {self._network} address add {self.address}/24 dev eth0
            ip -n {self._network} link set eth0 up
        """
        subprocess.run(["sh", "-e", "-c", commands], check=True)

    def kill(self) -> None:
        """End it as a machine ends without power; its instances go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def remove(self) -> None:
        """End it and take everything that it made; no instance runs any more."""
        listed = subprocess.run(["ip", "netns", "pids", self._network], capture_output=True, text=True, check=False)
        for pid in listed.stdout.split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        (self.folder / "unix.socket").unlink(missing_ok=True)
        stop_lxd(self.folder)
        subprocess.run(["ip", "netns", "delete", self._network], capture_output=True, check=False)


@contextlib.contextmanager
def daemons(folder: Path, *names: str) -> Iterator[list[Daemon]]:
    """Yield daemons in folders beside ``folder``, each with an empty storage pool."""
    isolation.enter()
    made = [Daemon(Path(f"{folder}{name}"), f"10.211.9.{number}") for number, name in enumerate(names, 11)]
    subprocess.run(["ip", "link", "add", _BRIDGE, "type", "bridge"], check=True)
    subprocess.run(["ip", "link", "set", _BRIDGE, "up"], check=True)
    try:
        for daemon in made:
            stop_lxd(daemon.folder)
            daemon.connect()
            daemon.start()
            with daemon.client() as client:
                config = {**lxd_setup.QUIET, "core.https_address": f"{daemon.address}:8443"}
                client.call("PATCH", "/1.0", {"config": config}, what="configure it", project=None)
                pool = {"name": "default", "driver": "btrfs", "config": {"size": "16GiB"}}
                client.call("POST", "/1.0/storage-pools", pool, what="create its pool", project=None)
        yield made
    finally:
        for daemon in made:
            daemon.remove()
        subprocess.run(["ip", "link", "delete", _BRIDGE], check=False)


def tiny_image() -> bytes:
    """An image whose only program, a shell, waits for the signal to stop."""
    script = b"#!/bin/sh\ntrap 'exit 0' PWR TERM\nwhile :; do sleep 1 & wait; done\n"
    files = {
        "metadata.yaml": (0o644, f"architecture: {os.uname().machine}\ncreation_date: 1700000000\n".encode()),
        "rootfs/sbin/init": (0o755, script),
    }
    for program in ("/bin/sh", "/bin/sleep"):
        files[f"rootfs{program}"] = (0o755, Path(program).read_bytes())
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
        for library in re.findall(r"/\S+", listed):
            files[f"rootfs{library}"] = (0o755, Path(library).read_bytes())
    folders = {str(parent) for path in files for parent in Path(path).parents[:-1]}
    folders |= {f"rootfs/{name}" for name in ("dev", "etc", "proc", "run", "sys")}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for folder in sorted(folders):
            archive.addfile(_entry(folder, 0o755, type=tarfile.DIRTYPE))
        for path, (mode, content) in files.items():
            archive.addfile(_entry(path, mode, size=len(content)), io.BytesIO(content))
    return packed.getvalue()


def _entry(path: str, mode: int, **more: Any) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.mode = mode
    for key, value in more.items():
        setattr(entry, key, value)
    return entry
