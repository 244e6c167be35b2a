# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm open`: the window of a stack on this machine's screen, with one socket and one cookie while it is open.

A stack with pages opens in a browser; see `browser`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.read import read_id
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client

from . import browser, setup
from .connect import connect
from .datacenter import UsageError
from .stacks import checked

_DEVICE = "bcm-window"
_DIRECTORY = "/run/bcm-window"
_NOBODY = "65534"
# The family with which a cookie is valid for a display of any machine (Xau's FamilyWild).
_ANY_HOST = 0xFFFF


def show(args: argparse.Namespace) -> int:
    """Open the window, wait until it is closed, and remove its access."""
    known = checked(args.datacenter, [args.stack])
    if known[args.stack].web and not known[args.stack].display:
        return browser.show(args, known)
    if not known[args.stack].display:
        windows = ", ".join(name for name, stack in known.items() if stack.display or stack.web) or "none has"
        raise UsageError(f"Stack {args.stack}", f"has no window and no page; these have: {windows}", code="unsupported")
    with connect(args.datacenter) as client, ExitStack() as stack:
        if client.endpoint.socket_path is None or "://" in client.endpoint.name.removeprefix("unix://"):
            raise BcmError(
                client.endpoint.name, "is another machine: a window opens only where LXD runs", code="unsupported"
            )
        # It does not hold the lock itself: a window may be open for days.
        args.datacenter.refuse_other_runs(client)
        screen = _screen(args.yes)
        unit = f"{args.stack}-window.service"
        user, uid, gid = _user(client, args.stack, unit)
        command = lxd_exec.Command(["systemctl", "is-active", unit])
        if lxd_exec.run(client, args.stack, command, deadline=10).returncode == 0:
            raise BcmError(f"The window of {args.stack}", "is open already", code="conflict")
        proxy = {
            "type": "proxy",
            "bind": "instance",
            "listen": f"unix:{screen.inside}",
            "uid": uid,
            "gid": gid,
            "mode": "0600",
            "connect": f"unix:{screen.socket}",
            "security.uid": screen.uid,
            "security.gid": screen.gid,
        }
        _close(client, args.stack)  # left by a run that was killed; its socket is gone, so it has to be created again
        stack.enter_context(_files(client, args.stack, user, screen))
        stack.enter_context(_device(client, args.stack, proxy))
        stack.callback(_run, client, args.stack, f"systemctl stop {unit}")
        setup.step(f"{args.stack} opens its window; this ends when the window is closed")
        result = lxd_exec.run(client, args.stack, lxd_exec.Command(["systemctl", "start", "--wait", unit]))
    if result.returncode:
        raise BcmError(unit, "failed", f"`bcm logs {args.stack}` says why", code="service_failed")
    return 0


@dataclass(frozen=True)
class _Screen:
    """The display for the window: its socket, the user that may connect, and the program's environment."""

    socket: str
    inside: str
    uid: str
    gid: str
    variables: dict[str, str]
    cookie: bytes = b""


def _screen(yes: bool) -> _Screen:
    """Return the Wayland display, which isolates windows itself, or else the X display, with an untrusted cookie."""
    wayland, display = os.environ.get("WAYLAND_DISPLAY"), os.environ.get("DISPLAY")
    if wayland:
        socket, inside = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), wayland), f"{_DIRECTORY}/wayland-0"
        variables = {"WAYLAND_DISPLAY": inside, "XDG_RUNTIME_DIR": _DIRECTORY, "QT_QPA_PLATFORM": "wayland"}
        screen = _Screen(socket, inside, str(os.getuid()), str(os.getgid()), variables)
    elif display:
        setup.packages(setup.WINDOW_PACKAGES, yes)
        host, _colon, number = display.split(".")[0].rpartition(":")
        if host not in ("", "unix") or not number.isdigit():
            raise BcmError(
                f"The display {display}",
                "is not this machine's own",
                "log in to its desktop and run it again",
                code="unsupported",
            )
        socket = f"/tmp/.X11-unix/X{number}"
        variables = {"DISPLAY": f":{number}", "XAUTHORITY": f"{_DIRECTORY}/Xauthority", "QT_QPA_PLATFORM": "xcb"}
        # An X server accepts its owner's processes without a cookie, so there are no other clients.
        screen = _Screen(socket, socket, _NOBODY, _NOBODY, variables, _cookie(display))
    else:
        raise BcmError(
            "No screen here:",
            "neither WAYLAND_DISPLAY nor DISPLAY is set.",
            "Log in to a desktop and run it again",
            code="not_ready",
        )
    if not os.path.exists(screen.socket):
        raise BcmError(
            f"The screen's socket {screen.socket}",
            "does not exist",
            "run this in a terminal of the desktop",
            code="not_found",
        )
    return screen


def _user(client: Client, instance: str, unit: str) -> tuple[str, str, str]:
    """Return name, uid and gid of the user of the unit that opens the window."""
    script = f'user=$(systemctl show --property=User --value {unit}) && echo "$user" && id -u "$user" && id -g "$user"'
    result = lxd_exec.run(client, instance, lxd_exec.Command(["sh", "-c", script]), deadline=10)
    words = result.stdout.decode(errors="replace").split()
    if len(words) != 3 or None in map(read_id, words[1:]):
        raise BcmError(
            f"Instance {instance}", f"has no {unit}", f"run `bcm stack start {instance}` again", code="not_ready"
        )
    return words[0], words[1], words[2]


def _cookie(display: str) -> bytes:
    """Return an Xauthority file with a new cookie for an untrusted client, as `ssh -X` creates it.

    A client with it can neither read other windows nor the keyboard (X Security Extension Specification 7.1). The
    server forgets it a minute after its last client has disconnected.
    """
    with tempfile.NamedTemporaryFile() as temporary:
        file = temporary.name
        command = ["xauth", "-q", "-f", file, "generate", display, ".", "untrusted", "timeout", "60"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        listed = subprocess.run(["xauth", "-f", file, "nlist"], capture_output=True, text=True, check=False).stdout
    if not listed:
        raise BcmError(
            f"The X server of {display}",
            f"grants no cookie for an untrusted client: {done.stderr.strip()}",
            code="command_failed",
        )
    # nine words a line: family, then length and value of address, display, name and data, all in hexadecimal
    words = listed.splitlines()[0].split()
    try:
        fields = [bytes.fromhex(words[index]) for index in (2, 4, 6, 8)]
    except (ValueError, IndexError) as error:
        raise BcmError(
            "xauth", "lists a cookie that it cannot have made", "see whether it is your system's own", code="damaged"
        ) from error
    return struct.pack(">H", _ANY_HOST) + b"".join(struct.pack(">H", len(field)) + field for field in fields)


@contextmanager
def _files(client: Client, instance: str, user: str, screen: _Screen) -> Iterator[None]:
    """Write the directory that the unit reads; it is in memory and removed afterwards."""
    lines = "".join(f"{name}={value}\n" for name, value in screen.variables.items()).encode()
    away = f"rm -rf {_DIRECTORY} {screen.inside}"
    script = f"""
        set -e; umask 077
        {away}; mkdir {_DIRECTORY}; cd {_DIRECTORY}
        head -c {len(lines)} >environment; cat >Xauthority
        chown -R {shlex.quote(user)}: .; mkdir -p -m 1777 {os.path.dirname(screen.inside)}
    """
    _run(client, instance, script, lines + screen.cookie)
    try:
        yield
    finally:
        _run(client, instance, away)


@contextmanager
def _device(client: Client, instance: str, proxy: dict[str, str]) -> Iterator[None]:
    """Add the proxy device that connects the sockets, as a context."""
    _change(client, instance, "let the window through", lambda devices: devices.update({_DEVICE: proxy}))
    try:
        yield
    finally:
        _close(client, instance)


def _close(client: Client, instance: str) -> None:
    _change(client, instance, "close the way of the window", lambda devices: devices.pop(_DEVICE, None))


def _change(client: Client, instance: str, what: str, change: Callable[[dict[str, Any]], object]) -> None:
    path = f"/1.0/instances/{instance}"
    body, etag = client.read(path)
    change(body["devices"])
    client.call("PUT", path, body, what=what, etag=etag)


def _run(client: Client, instance: str, script: str, stdin: bytes = b"") -> None:
    result = lxd_exec.run(client, instance, lxd_exec.Command(["sh", "-c", script], stdin=stdin), deadline=60)
    if result.returncode:
        raise BcmError(f"Instance {instance}:", result.stderr.decode(errors="replace").strip(), code="command_failed")
