# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare LXD: the configured endpoint, this machine's own, or one that is installed and started here."""

from __future__ import annotations

import contextlib
import grp
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.endpoint import find_local, local_sockets
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import Unreachable

from . import setup
from .connect import connect
from .datacenter import DataCenter

_OS_RELEASE = Path("/etc/os-release")
_START_SECONDS = 60
#: has the volumes of the stack electrum on regtest; a pool does not grow when space is freed later
_SMALLEST_POOL_GIB = 8
#: At start and every day, the daemon downloads the names of clouds' machine types from the servers below, and every
#: six hours it asks the servers of images that it downloaded for newer ones. With a proxy where nothing listens, it
#: connects to no host and resolves no name.
PROXY = "http://127.0.0.1:9"
QUIET = {"core.proxy_http": PROXY, "core.proxy_https": PROXY, "images.auto_update_interval": "0"}
_LXD_ASKS = "images.lxd.canonical.com (earlier versions, such as 5.0.2: images.linuxcontainers.org)"
_INCUS_ASKS = "images.linuxcontainers.org"
#: Until it has these settings, its environment has the proxy, by a drop-in that does not survive a reboot. Servers of
#: the outside have names; addresses, which are those of members of its cluster, are reached directly.
QUIET_ENVIRONMENT = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": "0.0.0.0/0,::/0"}
_DROP_IN = f"""[Service]
Environment={' '.join(f'{name}={value}' for name, value in QUIET_ENVIRONMENT.items())}
"""
# From LXD's package: without it, systemd starts in only about ten instances of a host.
_KERNEL_SETTINGS = "/etc/sysctl.d/10-lxd-inotify.conf"


def ready(datacenter: DataCenter, yes: bool) -> None:
    """Install, start and initialise what this machine lacks to deploy the data center. Idempotent."""
    endpoint = datacenter.endpoint
    wanted: tuple[setup.Package, ...] = setup.IMAGE_PACKAGES
    if endpoint:
        # Another machine, or a configured socket, is not prepared here.
        setup.packages(wanted + (setup.SSH_PACKAGES if endpoint.startswith("ssh://") else ()), yes)
        with connect(datacenter) as client:
            client.check_trust()
        return
    runs = _answers()
    is_new = False
    if not runs:
        program = _program()
        is_new = program is None
        if program is None:
            wanted += setup.LXD_SNAPS if _is_ubuntu() else setup.LXD_PACKAGES
        elif "/snap/" not in program:
            wanted += setup.LXD_TOOLS
    # Installing it may also start it.
    with _without_network("snap.lxd.daemon" if _is_ubuntu() else "lxd", is_new):
        setup.packages(wanted, yes)
        if not runs and not _answers():
            _start()
        with connect(datacenter) as client:
            _initialise(client, datacenter.storage_pool)


@contextlib.contextmanager
def _without_network(unit: str, is_new: bool) -> Iterator[None]:
    """Have systemd start a newly installed daemon with a proxy where nothing listens."""
    if not (is_new and _uses_systemd()):
        yield
        return
    root = setup.sudo()
    directory = f"/run/systemd/system/{unit}.service.d"

    def reload(*change: str, stdin: str = "") -> None:
        subprocess.run([*root, *change], input=stdin.encode(), stdout=subprocess.DEVNULL, check=True)
        subprocess.run([*root, "systemctl", "daemon-reload"], check=True)

    subprocess.run([*root, "mkdir", "-p", directory], check=True)
    reload("tee", f"{directory}/bcm.conf", stdin=_DROP_IN)
    try:
        yield
    finally:
        reload("rm", "-f", f"{directory}/bcm.conf")


def _uses_systemd() -> bool:
    return os.path.isdir("/run/systemd/system") and not os.environ.get("LXD_DIR")


def _answers() -> bool:
    path = find_local()
    if path is None:
        return False
    try:
        with Client(path) as client:
            client.check_trust()
    except Unreachable:
        return False
    return True


def _is_ubuntu() -> bool:
    try:
        lines = _OS_RELEASE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return "ubuntu" in " ".join(line for line in lines if line.startswith(("ID=", "ID_LIKE=")))


def _program() -> str | None:
    # Ubuntu's package of this name only offers to install the snap.
    return setup.which("/snap/bin/lxd" if _is_ubuntu() else "lxd") or setup.which("incusd")


def _start() -> None:
    program = _program()
    if program is None:
        raise BcmError(
            "LXD",
            "was installed, but there is no program lxd in PATH",
            "log in again and run the command again",
            code="missing_program",
        )
    name = os.path.basename(program)
    root = setup.sudo()
    log = None
    if _uses_systemd():
        unit = "snap.lxd.daemon" if "/snap/" in program else {"lxd": "lxd", "incusd": "incus"}[name]
        setup.run_quietly(f"Start {unit}", [*root, "systemctl", "start", unit])
    else:
        directory = os.environ.get("LXD_DIR") or {"lxd": "/var/lib/lxd", "incusd": "/var/lib/incus"}[name]
        log = f"{directory}/bcm.log"
        _sub_ids(root)
        if os.path.exists(_KERNEL_SETTINGS) and (sysctl := setup.which("sysctl")):
            # systemd would have applied it; LXD also runs without it where the kernel refuses.
            subprocess.run([*root, sysctl, "--quiet", f"--load={_KERNEL_SETTINGS}"], capture_output=True, check=False)
        subprocess.run([*root, "mkdir", "-p", "-m", "711", directory], check=True)
        command = [program, "--group", _group(), "--logfile", log]
        environment = ["env", *(f"{name}={value}" for name, value in QUIET_ENVIRONMENT.items())]
        environment += [f"LXD_DIR={directory}"] if name == "lxd" else []
        setup.step(f"Start {name} (log: {log})")
        subprocess.run(
            [*root, *environment, "setsid", "--fork", *command],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    end = time.monotonic() + _START_SECONDS
    while not _answers():
        if time.monotonic() > end:
            where = f"see {log}" if log else f"see `journalctl -u {name}`"
            raise BcmError(name, f"was started but does not answer within {_START_SECONDS} s: {where}", code="timeout")
        time.sleep(0.2)


def _group() -> str:
    """The group that may use the socket."""
    for group in ("lxd", "incus-admin"):
        try:
            return grp.getgrnam(group).gr_name
        except KeyError:
            continue
    return "root"


def _sub_ids(root: list[str]) -> None:
    """Give root a range of ids for unprivileged containers, as LXD's package does."""
    for file, option in (("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")):
        # Without the file, LXD uses a default range.
        if os.path.exists(file) and "\nroot:" not in "\n" + Path(file).read_text(encoding="utf-8"):
            setup.run_quietly(f"Give root a range in {file}", [*root, "usermod", option, "1000000-1000999999", "root"])


def _initialise(client: Client, pool: str) -> None:
    if client.get("/1.0/storage-pools"):
        return
    client.call("PATCH", "/1.0", {"config": QUIET}, what="keep the daemon from calling out by itself", project=None)
    drivers = {driver["Name"] for driver in client.server["environment"].get("storage_supported_drivers", ())}
    driver, config = "dir", {}
    if "btrfs" in drivers and client.endpoint.socket_path:
        size = pool_gib(os.path.dirname(client.endpoint.socket_path))
        driver, config = "btrfs", {"size": f"{size}GiB"}
    setup.step(f'Create the storage pool "{pool}" ({driver}{", at most " + config["size"] if config else ""})')
    body = {"name": pool, "driver": driver, "config": config}
    client.call("POST", "/1.0/storage-pools", body, what=f"create the storage pool {pool}", project=None)


def pool_gib(directory: str) -> int:
    """Return the size of a new pool in this directory: a fifth of the disk's free space is left to the machine.

    The pool is a sparse file, so it takes only the space that is used. Raises BcmError if it would be too small.
    """
    size = shutil.disk_usage(directory).free * 4 // 5 // 2**30
    if size < _SMALLEST_POOL_GIB:
        raise BcmError(
            "LXD",
            f"can have {size} GiB in {directory} and needs {_SMALLEST_POOL_GIB} GiB",
            "free some space",
            code="no_space",
        )
    return size


def calls_out(client: Client) -> list[str]:
    """Return what the daemon of an endpoint, and what updates it, sends by itself without Tor, and how to stop that."""
    server, endpoint = client.server, client.endpoint
    is_snap = endpoint.is_here and str(endpoint.socket_path).startswith("/var/snap/")
    found = []
    if is_snap:
        found.append(
            "snapd looks for a newer LXD at api.snapcraft.io four times a day, from the address of the host, and "
            "installs it: `sudo snap refresh --hold lxd` ends the updates of LXD, and `sudo snap refresh --hold` those "
            "of all snaps"
        )
    config = server["config"]
    if config.get("core.proxy_https") == PROXY:
        return found
    name = server["environment"]["server"]
    is_incus = name == "incus"
    asked = _INCUS_ASKS if is_incus else _LXD_ASKS
    settings = " ".join(f"{key}={value}" for key, value in QUIET.items())
    command = f"{'incus' if is_incus else 'lxc'} config set {settings}"
    if endpoint.is_here and endpoint.socket_path not in local_sockets():
        command = f"{'INCUS' if is_incus else 'LXD'}_SOCKET={shlex.quote(str(endpoint.socket_path))} {command}"
    where = "" if endpoint.is_here else ", on that machine,"
    proxy = config.get("core.proxy_https")
    way = f"through the proxy {proxy}" if proxy else "from the address of the host"
    found.append(
        f"{name} itself asks {asked} for machine types at start and every day, {way}, and the servers of images that "
        f"it has fetched for newer ones: `{command}`{where} ends that, and it fetches no images any more"
    )
    return found
