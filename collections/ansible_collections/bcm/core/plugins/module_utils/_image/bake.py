# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builders: instances of the base image in which a stack is installed, and which are published as its image."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .._base.errors import BcmError
from .._base.versions import FOUND, satisfies
from .._lxd import exec as lxd_exec
from .._lxd import id_maps
from .._lxd.client import Client, quoted
from .._lxd.endpoint import Endpoint
from .._lxd.handler_base import Step
from .._lxd.instance_handler import DHCP_PATIENCE, InstanceHandler, addresses, offer_addresses_again
from .._lxd.resources import parse
from . import endpoint_images
from .base import archive
from .sources import Mirrors, apt_conf, apt_options, loopback, mirrors, without_passwords

_CERTIFICATES = Path("/usr/local/share/ca-certificates")
_OWNER = "user.bcm.builder"
# room for a compiler, its sources and its output
_ROOT_SIZE = "20GiB"

# Seconds.
_ADDRESS_DEADLINE = 30.0
_PREPARE_DEADLINE = 900.0  # through Tor, lists of packages take their time
_FINISH_DEADLINE = 120.0
_STOP_DEADLINE = 60.0
BAKE_LIMIT = 3 * 3600.0

# Files of a builder that no image may contain; the counterpart of _inputs().
_FINISH = r"""
set -eu
apt-get clean
if ls /usr/local/share/ca-certificates/bcm-*.crt >/dev/null 2>&1; then
    rm -f /usr/local/share/ca-certificates/bcm-*.crt
    update-ca-certificates --fresh >/dev/null 2>&1
fi
rm -f /etc/apt/sources.list.d/bcm.list /etc/apt/preferences.d/bcm /etc/apt/apt.conf.d/99-bcm-builder \
    /usr/share/keyrings/bcm-*.gpg
: > /etc/apt/sources.list
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/cache/ldconfig/aux-cache
rm -rf /var/lib/systemd/random-seed /var/lib/systemd/network /var/lib/dbus/machine-id /etc/ssh/ssh_host_*
find /root -mindepth 1 ! -name .bashrc ! -name .profile -delete
find /tmp /var/tmp -mindepth 1 -xdev -delete 2>/dev/null || true
find /var/log -type f -delete
: > /etc/machine-id
sync
"""

# apt gives up a proxy that refuses one connection, as tor does while it is restarted.
_UPDATE = r"""
set -e
update-ca-certificates >/dev/null 2>&1
for seconds in 5 5 5 0; do
    ! apt-get -q update --error-on=any || exit 0
    sleep $seconds
done
exit 1
"""


def builder_name(stack: str, image_hash: str) -> str:
    return f"build-{stack}-{image_hash[:8]}"


def plain_nic(network: str) -> dict[str, str]:
    """Return the network interface of a builder on a network with a route to the outside."""
    return {
        "type": "nic",
        "network": network,
        "name": "eth0",
        # LXD chooses an address for a NIC that it filters, and DHCP serves no other NIC.
        "security.ipv4_filtering": "true",
        "security.mac_filtering": "true",
    }


def start(
    client: Client,
    name: str,
    base: str,
    nic: Mapping[str, str],
    storage_pool: str,
    settings: Mapping[str, Any],
    suites: Iterable[str] = (),
    *,
    socks: str | None = None,
    target: str | None,
) -> None:
    """Create a builder ``name`` from the base image (an alias), with the interface ``nic``, ready for apt.

    ``suites`` are those of Debian that packages come from beside the base's own. ``socks`` is ADDRESS:PORT of the tor
    that they come through, if they do.

    A builder of that name that a killed run left is replaced. Raises BcmError if another run is using it.
    """
    client.settle([f"/1.0/instances/{quoted(name)}"], client.project)
    _replace(client, name)
    extra = _extra_sources(suites, settings)
    near = _near(client.endpoint, name, settings, extra, socks)
    body = {
        "name": name,
        "description": "Bitcoin Cache Machine: builder of an image, gone when it is done",
        "source": {"type": "image", "alias": base},
        "profiles": [],
        # It may use all processors, but with a lower priority.
        "config": {
            _OWNER: this_run(),
            "limits.memory": "75%",
            "limits.processes": "5000",
            "limits.cpu.priority": "5",
        },
        "devices": {
            "root": {"type": "disk", "path": "/", "pool": storage_pool, "size": _ROOT_SIZE},
            "eth0": dict(nic),
            # What is this machine's loopback is the builder's, too, as far as apt needs it.
            **{
                f"near{number}": {"type": "proxy", "bind": "instance", "listen": f"tcp:{at}", "connect": f"tcp:{at}"}
                for number, at in enumerate(near)
            },
        },
    }
    client.call("POST", "/1.0/instances", body, what=f"create the builder {name}", deadline=300.0, target=target)
    id_maps.separate(client, name)
    client.call("PUT", f"/1.0/instances/{quoted(name)}/state", {"action": "start"}, what=f"start the builder {name}")
    _wait_for_address(client, name, nic["network"])
    _prepare(client, name, {**settings, "image_sources": extra}, socks)


def version(client: Client, name: str, stack: str, argv: list[str]) -> str:
    """Return the version that the program in a builder reports. Raises BcmError if it reports none."""
    # Some programs make a directory in their home for this.
    command = lxd_exec.Command(argv, environment={"HOME": "/tmp", "LC_ALL": "C.UTF-8"})
    done = lxd_exec.run(client, name, command, deadline=60.0)
    output = (done.stdout + done.stderr).decode(errors="replace")
    found = FOUND.search(output)
    if done.returncode or found is None:
        raise BcmError(
            f"Image of {stack}:",
            f"`{' '.join(argv)}` says no version (status {done.returncode}): {output[-300:].strip()}",
            code="command_failed",
        )
    return found.group()


def below_floor(stack: str, its_version: str, floor: Mapping[str, Any] | None) -> str | None:
    """Return the fault of a version as a sentence; None if there is none."""
    if not floor or not its_version or satisfies(its_version, floor):
        return None
    floors = " or ".join(floor["versions"])
    return f"{stack} {its_version} is below its floor {floors} ({floor['why']})"


def finish(client: Client, name: str) -> None:
    """Remove everything from a builder that no image may contain, and stop it."""
    done = lxd_exec.run(client, name, lxd_exec.Command(["sh", "-s"], stdin=_FINISH.encode()), deadline=_FINISH_DEADLINE)
    if done.returncode:
        raise BcmError(
            f"Failed to clean the builder {name}:", _tail(done), code="command_failed", about=f"the builder {name}"
        )
    stopped = {"kind": "instance", "name": name, "state": "stopped", "deadline": _STOP_DEADLINE}
    step = Step("stop", {"status": "Running"}, {"status": "Stopped"})
    InstanceHandler().perform(client, parse(stopped, project=client.project), step)


def discard(client: Client, name: str, project: str | None = None) -> None:
    """Delete a builder, in any state, if it exists. ``project`` defaults to the client's."""
    path, where = f"/1.0/instances/{quoted(name)}", project or client.project
    there = client.find(path, project=where)
    if there is None:
        return
    if there["status"] != "Stopped":
        body = {"action": "stop", "timeout": -1, "force": True}
        client.call("PUT", f"{path}/state", body, what=f"stop the builder {name}", project=where)
    client.call("DELETE", path, what=f"delete the builder {name}", project=where)


def is_left(instance: Mapping[str, Any]) -> bool:
    """Whether an instance is a builder that no run uses any more."""
    return _OWNER in instance["config"] and not _is_at_work(instance)


def abandoned(client: Client) -> list[tuple[str, str]]:
    """Return builders that no run uses any more, as project and name."""
    return [
        (item["project"], item["name"])
        for item in endpoint_images.list_instances(client)
        if is_left(item)
    ]


def _replace(client: Client, name: str) -> None:
    there = client.find(f"/1.0/instances/{quoted(name)}")
    if there is None:
        return
    if _OWNER not in there["config"]:
        raise BcmError(
            f'Instance "{name}" in project {client.project}',
            "has the name of a builder but is none",
            "rename or remove it",
            code="conflict",
        )
    owner = there["config"][_OWNER]
    if owner != this_run() and _is_at_work(there):
        host, _colon, process = owner.partition(":")
        pid = process.partition(":")[0]
        raise BcmError(
            f"Another run bakes in {name} now (process {pid} on {host})",
            remedy="wait for its end",
            code="busy",
            about=f"builder {name}",
        )
    discard(client, name)


def this_run() -> str:
    """Identify this run: machine, process, and its start time, since process ids are reused."""
    # Tasks run in workers; the run is their parent.
    pid = os.getppid()
    return f"{socket.gethostname()}:{pid}:{_started(str(pid))}"


def is_running_here(run: str) -> bool | None:
    """Whether a run, as ``this_run`` identifies it, goes on; None if it is on another machine."""
    host, pid, started = (*run.split(":", 2), "", "")[:3]
    if host != socket.gethostname():
        return None
    return started != "" and _started(pid) == started


def _is_at_work(builder: Mapping[str, Any]) -> bool:
    running = is_running_here(builder["config"][_OWNER])
    if running is not None:
        return running
    # Another controller's processes cannot be seen from here; no bake takes that long.
    created = datetime.fromisoformat(builder["created_at"][:19]).replace(tzinfo=UTC)
    return (datetime.now(UTC) - created).total_seconds() < BAKE_LIMIT


def _started(pid: str) -> str:
    """When a process started, in clock ticks since boot (proc(5), stat, field 22); empty if there is none."""
    if not pid.isdigit():
        return ""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _wait_for_address(client: Client, name: str, network: str) -> None:
    path = f"/1.0/instances/{quoted(name)}"
    end = time.monotonic() + _ADDRESS_DEADLINE
    next_offer = time.monotonic() + DHCP_PATIENCE
    while time.monotonic() < end:
        if addresses(client.get(f"{path}/state"), ["inet"]):
            return
        if time.monotonic() > next_offer:
            next_offer += DHCP_PATIENCE
            offer_addresses_again(client, path, client.project)
        time.sleep(0.1)
    raise BcmError(
        f"The builder {name}",
        f"has no address after {_ADDRESS_DEADLINE:g} s",
        f"does the network {network} have DHCP?",
        code="timeout",
    )


def _extra_sources(suites: Iterable[str], settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sources of the settings, and those of Debian's suites that are not among them."""
    given = list(settings.get("image_sources") or [])
    there = {source["suite"] for source in given if not source.get("mirror")}
    return [*given, *({"suite": suite} for suite in suites if suite not in there)]


def _near(
    endpoint: Endpoint,
    name: str,
    settings: Mapping[str, Any],
    extra: Iterable[Mapping[str, Any]],
    socks: str | None = None,
) -> list[str]:
    """ADDRESS:PORT of what apt needs of this machine's loopback. Raises BcmError if the builder is on another one."""
    found = mirrors(settings, through_tor=socks is not None)
    mirrors_of_extra = [item["mirror"] for item in extra if item.get("mirror")]
    urls = [*apt_options(settings, socks).values(), *(found.urls if found else ()), *mirrors_of_extra]
    near = sorted({at for url in urls if (at := loopback(url))})
    if near and not endpoint.is_here:
        raise BcmError(
            f"Packages come through {', '.join(near)} of this machine, which the builder {name} on {endpoint.name}",
            "cannot reach",
            "set bcm_image_mirror or bcm_image_apt_options to what it can, such as Acquire::http::Proxy=DIRECT",
            code="unreachable",
        )
    return near


def _prepare(client: Client, name: str, settings: Mapping[str, Any], socks: str | None) -> None:
    """Give a builder its sources of packages, apt options and certificates, and read the lists of packages."""
    command = lxd_exec.Command(["cat", "/etc/apt/sources.list"])
    sources = lxd_exec.run(client, name, command, deadline=30.0).stdout.decode()
    files = archive(_inputs(settings, mirrors(settings, through_tor=socks is not None), sources, socks))
    unpacked = lxd_exec.run(client, name, lxd_exec.Command(["tar", "-x", "-C", "/"], stdin=files), deadline=60.0)
    if unpacked.returncode:
        raise BcmError(
            f"Failed to prepare the builder {name}:",
            _tail(unpacked),
            code="command_failed",
            about=f"the builder {name}",
        )
    done = lxd_exec.run(client, name, lxd_exec.Command(["sh", "-c", _UPDATE]), deadline=_PREPARE_DEADLINE)
    if done.returncode:
        raise BcmError(
            f"Failed to read the lists of packages in the builder {name}:",
            _tail(done),
            code="command_failed",
            about=f"the builder {name}",
        )


def _inputs(
    settings: Mapping[str, Any], found: Mirrors | None, present: str, socks: str | None = None
) -> dict[str, tuple[int, str | bytes]]:
    """Files of a builder, path -> (mode, content); ``present`` are the sources it has from the base."""
    files: dict[str, tuple[int, str | bytes]] = {}
    keyring = None
    if settings.get("image_keyring"):
        keyring = "usr/share/keyrings/bcm-archive.gpg"
        files[keyring] = (0o644, _read(settings["image_keyring"], "image_keyring"))
    if found:
        files["etc/apt/sources.list"] = (0o644, "".join(f"{line}\n" for line in found.lines(keyring and f"/{keyring}")))
    archive_uri = found.archive if found else next((word for word in present.split() if "://" in word), "")
    lines, pins = [], []
    for number, source in enumerate(settings.get("image_sources") or []):
        own_keyring = keyring
        if source.get("keyring"):
            own_keyring = f"usr/share/keyrings/bcm-{number}.gpg"
            files[own_keyring] = (0o644, _read(source["keyring"], "image_sources"))
        options = found.options(own_keyring and f"/{own_keyring}") if found else _signed_by(own_keyring)
        uri = (source.get("mirror") or archive_uri).rstrip("/")
        lines.append(f"deb {options}{uri} {source['suite']} {' '.join(source.get('components') or ['main'])}\n")
        # Below what the suite of the base has: a package comes from here only by name, or when such a one needs it.
        which = f'origin "{urlsplit(uri).hostname}"' if source.get("mirror") else f"release n={source['suite']}"
        pins.append(f"Package: *\nPin: {which}\nPin-Priority: 100\n")
    if lines:
        files["etc/apt/sources.list.d/bcm.list"] = (0o644, "".join(lines))
        files["etc/apt/preferences.d/bcm"] = (0o644, "\n".join(pins))
    if complaints := apt_options(settings, socks):
        files["etc/apt/apt.conf.d/99-bcm-builder"] = (0o600, apt_conf(complaints))
    for number, path in enumerate(certificates(settings)):
        files[f"usr/local/share/ca-certificates/bcm-{number}.crt"] = (0o644, _read(path, "image_ca_certificates"))
    return files


def certificates(settings: Mapping[str, Any]) -> list[str]:
    """Files of the extra CA certificates; the machine's own unless the settings name others (or, as [], none)."""
    given = settings.get("image_ca_certificates")
    return [str(path) for path in sorted(_CERTIFICATES.glob("*.crt"))] if given is None else list(given)


def _signed_by(keyring: str | None) -> str:
    return f"[signed-by=/{keyring}] " if keyring else ""


def _read(path: str, setting: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise BcmError(f"{path}, named in {setting},", f"cannot be read: {error.strerror}", code="io_error") from error


def _tail(done: lxd_exec.ExecResult) -> str:
    lines = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()
    complaints = [line for line in lines if line.startswith(("E:", "Err:", "W:", "dpkg:"))] or lines
    return without_passwords("; ".join(complaints[-6:])) or f"status {done.returncode}"
