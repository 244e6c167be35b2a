# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where things are, how a tool is run, and an LXD of the tests' own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._image import endpoint_images
from ansible_collections.bcm.core.plugins.module_utils._image.images import unused
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import Unreachable
from bcm_cli import lxd_setup
from bcm_cli.datacenter import DataCenter
from tests import isolation

ROOT = Path(__file__).parent.parent
COLLECTION = ROOT / "collections/ansible_collections/bcm/core"
# short: the path of a unix socket has at most 107 bytes; each part of `./bcm test` has its own
LXD_DIR = Path(f"/tmp/bcm-test-lxd{os.environ.get('BCM_TEST_PART', '')}")
#: of the pool, a sparse file: instances and volumes of tests may become larger than the disk, and stay almost empty
_POOL_GIB = 64
#: what the images of all stacks need in the pools of all parts
_ROOM_GIB = 40
#: the program of Incus, if it is to take the place of LXD
_INCUS = os.environ.get("BCM_TEST_INCUS")
#: how long it may take to start
_START_SECONDS = 60
#: how long something is awaited that takes seconds if this machine has nothing else to do
PATIENCE = 300.0
#: seconds between two looks at it: the first, so that what is done at once costs nothing, and the last
_FIRST_PAUSE, _PAUSE = 0.01, 0.3
#: where the tests' relays are: a documentation address, which is nobody's, and public as far as a data center knows
RELAYS = "198.51.100.77"


class Tools:
    """Runs the tools of the virtual environment the tests run in."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        own = Path(sys.executable).parent
        self.environment = {
            **os.environ,
            "PATH": f"{own}:{os.environ['PATH']}",
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
            "ANSIBLE_NOCOLOR": "1",
            "NO_COLOR": "1",
            "LC_ALL": "C.UTF-8",
            **(environment or {}),
        }

    def run(self, *argv: str | Path, cwd: Path = ROOT, timeout: float = 900) -> str:
        """Output of a command; its failure fails the test, with the output and nothing else."""
        try:
            done = subprocess.run(
                argv,
                cwd=cwd,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError:
            pytest.fail(f"{argv[0]} is missing: run ./bcm test, which installs what the tests need", pytrace=False)
        except subprocess.TimeoutExpired as exc:
            output = exc.stdout.decode(errors="replace") if exc.stdout else ""
            pytest.fail(f"{output}\n{argv[0]} did not end within {timeout:.0f} s", pytrace=False)
        if done.returncode:
            pytest.fail(f"{done.stdout}\n{argv[0]} ended with {done.returncode}", pytrace=False)
        return done.stdout


def until(condition: Callable[[], object], what: str) -> None:
    """Await a condition. A bound of its own would only fail where the machine is busy.

    At most two thirds of the time go into looking: many conditions start a command, which takes seconds where others
    wait for the processor, too. Others mine a block, and need many.
    """
    begun, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        looked = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        assert now - begun < PATIENCE, f"{what}: not within {PATIENCE:.0f} s"
        time.sleep(max(pause, (now - looked) / 2))
        pause = min(2 * pause, _PAUSE)


@contextmanager
def own_lxd(directory: Path = LXD_DIR) -> Iterator[Tools]:
    """An LXD daemon and a network of the tests' own, and tools that find it; a contributor's stay untouched."""
    isolation.enter()
    stop_lxd(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LXD_DIR", str(directory))
        patch.delenv("BCM_ENDPOINT", raising=False)
        patch.setattr(lxd_setup, "pool_gib", lambda _directory: _POOL_GIB)
        try:
            if _INCUS:
                _start_incus(_INCUS, directory)
            lxd_setup.ready(DataCenter("local"), yes=True)
            yield Tools()
        finally:
            stop_lxd(directory)


def _start_incus(program: str, directory: Path) -> None:
    """Start Incus where LXD would be, and wait until it answers."""
    directory.mkdir(mode=0o711)
    subprocess.Popen(
        [program, "--group", "root", "--logfile", str(directory / "bcm.log")],
        env={**os.environ, **lxd_setup.QUIET_ENVIRONMENT, "INCUS_DIR": str(directory)}, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            with Client(str(directory / "unix.socket")) as client:
                client.check_trust()
            return
        except Unreachable:
            if time.monotonic() > end:
                pytest.fail(f"Incus does not answer: see {directory / 'bcm.log'}", pytrace=False)
            time.sleep(0.2)


def delete_unused_images() -> None:
    """Delete the images that no instance uses from the tests' LXD, if the disk is small. Its cache keeps them."""
    if shutil.disk_usage(LXD_DIR).free > _ROOM_GIB * 2**30:
        return
    with Client(str(LXD_DIR / "unix.socket")) as lxd:
        for image in unused(endpoint_images.list_images(lxd).values(), endpoint_images.image_users(lxd), ()):
            endpoint_images.delete_image(lxd, image.fingerprint)


def stop_lxd(directory: Path) -> None:
    """End the tests' daemon, also one that a killed run left, and take everything it made."""
    environment = {**os.environ, "LXD_DIR": str(directory)}
    if (directory / "unix.socket").exists():
        shutdown = ["lxd", "shutdown", "--force", "--timeout=60"]
        subprocess.run(shutdown, env=environment, capture_output=True, check=False)
        time.sleep(1)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{directory}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=True)
    if directory.exists():
        shutil.rmtree(directory)
