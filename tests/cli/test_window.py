# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The window of a stack: a real one of a small program, on a real X server; a Wayland socket that only counts."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from tests.cli.conftest import PROJECT, Checkout, changing, inside
from tests.support import LXD_DIR, PATIENCE, until

DISPLAY = ":78"
UNIT = """
[Service]
User=tester
EnvironmentFile=/run/bcm-window/environment
PrivateTmp=yes
BindPaths=-/tmp/.X11-unix
ExecStart=python3 /usr/local/bin/window
"""
WAYLAND = """
import os, socket
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["WAYLAND_DISPLAY"])
s.sendall(b"hello")
print(s.recv(5), flush=True)
"""


@pytest.fixture(scope="module")
def bcm(deployed: Checkout) -> Checkout:
    client = Path(__file__).with_name("x_client.py").read_bytes()
    inside("electrum", "useradd --system tester; cat >/usr/local/bin/window", client)
    inside("electrum", "cat >/etc/systemd/system/electrum-window.service; systemctl daemon-reload", UNIT.encode())
    return deployed


@pytest.fixture
def screen(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A screen as a desktop has one: with an authority file, and a server that outlives its clients."""
    authority = tmp_path / "Xauthority"
    subprocess.run(["xauth", "-q", "-f", authority, "add", DISPLAY, ".", "0123456789abcdef" * 2], check=True)
    server = subprocess.Popen(
        ["Xvfb", DISPLAY, "-noreset", "-screen", "0", "640x480x24", "-auth", authority], stderr=subprocess.DEVNULL
    )
    until(Path(f"/tmp/.X11-unix/X{DISPLAY[1:]}").exists, "the start of Xvfb")
    yield {"DISPLAY": DISPLAY, "XAUTHORITY": str(authority)}
    server.terminate()
    server.wait()


def windows(screen: dict[str, str]) -> list[str]:
    found = subprocess.run(
        ["xdotool", "search", "--onlyvisible", "--name", "bcm test"],
        env={**os.environ, **screen}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.split()


def opened(bcm: Checkout, screen: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [bcm.home / "bcm", "open", "electrum"], cwd=bcm.home, env={**bcm.environment, **screen},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def nothing_is_left() -> None:
    with Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as client:
        assert client.get("/1.0/instances/electrum")["devices"].keys() == {"root"}
    assert inside("electrum", "ls -d /run/bcm-window /tmp/.X11-unix/* 2>/dev/null || true") == ""


def journal() -> str:
    return inside("electrum", "journalctl --sync; journalctl -u electrum-window -b -o cat")


@pytest.mark.containers
def test_window_is_open_until_it_is_closed(bcm: Checkout, screen: dict[str, str]) -> None:
    process = opened(bcm, screen)
    until(lambda: windows(screen) or process.poll() is not None, "a window")
    assert process.poll() is None, process.communicate()[1]
    # It is the user's alone who runs the program, and it shows the program nothing else of the screen.
    assert "the screen cannot be read" in journal()
    listed = inside("electrum", "stat -c '%U %a %n' /run/bcm-window /run/bcm-window/* /tmp/.X11-unix/X78")
    owners = [line.split()[:2] for line in listed.splitlines()]
    assert owners == [["tester", mode] for mode in ("700", "600", "600", "600")]
    inside("electrum", "mkdir -p /var/lib/bcm/units; touch /var/lib/bcm/units/electrum.digest")
    status = json.loads(bcm.bcm("stack", "status", "electrum", "--json").stdout)["stacks"][0]
    assert (status["status"], status["units"]) == ("running", {"electrum": "window"})
    assert "the screen cannot be read" in bcm.bcm("logs", "electrum").stdout
    inside("electrum", "rm -r /var/lib/bcm")
    second = bcm.bcm("open", "electrum", **screen)
    assert (second.returncode, second.stderr) == (1, "bcm: The window of electrum is open already\n")
    subprocess.run(["xdotool", "windowkill", *windows(screen)], env={**os.environ, **screen}, check=True)
    assert process.wait(PATIENCE) == 0, process.communicate()[1]
    nothing_is_left()


@pytest.mark.containers
def test_program_with_the_full_cookie_reads_the_screen(screen: dict[str, str]) -> None:
    """With the screen's own cookie the same program reads the screen."""
    client = [shutil.which("python3") or "python3", Path(__file__).with_name("x_client.py")]
    with subprocess.Popen(client, env={**os.environ, **screen}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "the screen can be read\n"
        process.terminate()


@pytest.mark.containers
def test_window_is_refused_while_the_data_center_is_changed(bcm: Checkout, screen: dict[str, str]) -> None:
    with changing("local"):
        done = bcm.bcm("open", "electrum", **screen)
    assert done.returncode == 1
    assert done.stderr.startswith("bcm: Data center local (regtest) is being changed by ")
    nothing_is_left()


@pytest.mark.containers
def test_control_c_closes_the_window(bcm: Checkout, screen: dict[str, str]) -> None:
    terminal = bcm.terminal("open", "electrum", **screen)
    terminal.reads("opens its window")
    until(lambda: windows(screen), "a window")
    terminal.types("\x03")
    assert terminal.ends() == 130
    assert not windows(screen)
    nothing_is_left()


@pytest.mark.containers
def test_next_window_replaces_what_a_killed_command_left(bcm: Checkout, screen: dict[str, str]) -> None:
    process = opened(bcm, screen)
    until(lambda: windows(screen), "a window")
    process.kill()
    process.wait()
    subprocess.run(["xdotool", "windowkill", *windows(screen)], env={**os.environ, **screen}, check=True)
    until(lambda: not windows(screen), "the end of the window")
    test_control_c_closes_the_window(bcm, screen)


@pytest.mark.containers
def test_window_uses_the_socket_of_wayland(bcm: Checkout, tmp_path: Path) -> None:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "wayland-7"))
    listening.listen()

    def compositor() -> None:
        connection = listening.accept()[0]
        if connection.recv(5) == b"hello":
            connection.sendall(b"drawn")

    threading.Thread(target=compositor, daemon=True).start()
    inside("electrum", "cat >/usr/local/bin/window", WAYLAND.encode())
    done = bcm.bcm("open", "electrum", WAYLAND_DISPLAY="wayland-7", XDG_RUNTIME_DIR=str(tmp_path), DISPLAY=":9")
    assert done.returncode == 0, done.stderr
    assert "b'drawn'" in journal()
    nothing_is_left()


@pytest.mark.containers
def test_failed_program_is_reported(bcm: Checkout, screen: dict[str, str]) -> None:
    inside("electrum", "echo 'raise SystemExit(3)' >/usr/local/bin/window")
    done = bcm.bcm("open", "electrum", **screen)
    assert done.returncode == 1
    assert "electrum-window.service failed: `bcm logs electrum` says why" in done.stderr
    nothing_is_left()


@pytest.mark.containers
@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DISPLAY": ""}, "No screen here"),
        ({"DISPLAY": "far:0"}, "The display far:0 is not this machine's own"),
        ({"DISPLAY": ":97"}, "grants no cookie for an untrusted client"),
        ({"WAYLAND_DISPLAY": "none", "XDG_RUNTIME_DIR": "/run"}, "The screen's socket /run/none does not exist"),
    ],
)
def test_missing_screen_is_reported(bcm: Checkout, variables: dict[str, str], said: str) -> None:
    done = bcm.bcm("open", "electrum", **{"WAYLAND_DISPLAY": "", **variables})
    assert done.returncode == 1
    assert said in done.stderr
    assert re.fullmatch(r"bcm: .*\n", done.stderr)
    nothing_is_left()
