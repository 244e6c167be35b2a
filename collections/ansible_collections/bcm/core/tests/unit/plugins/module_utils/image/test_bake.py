# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._image import bake
from ansible_collections.bcm.core.plugins.module_utils._image.sources import Mirrors
from ansible_collections.bcm.core.plugins.module_utils._lxd.endpoint import Endpoint
from ansible_collections.bcm.core.plugins.module_utils._lxd.exec import ExecResult
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.image.conftest import Machine

ARCHIVE = Mirrors("http://192.0.2.1/debian", None)
NONE: dict[str, Any] = {"image_ca_certificates": []}


def text(files: dict[str, tuple[int, str | bytes]], name: str) -> str:
    content = files[name][1]
    return content if isinstance(content, str) else content.decode()


def test_a_builder_gets_nothing_that_is_not_asked_for() -> None:
    assert bake._inputs(NONE, None, "deb http://192.0.2.9/debian trixie main\n") == {}


def test_sources_of_a_builder() -> None:
    settings = {
        **NONE,
        "image_sources": [
            {"suite": "sid"},
            {"suite": "x", "mirror": "http://192.0.2.3:81/own/", "components": ["a", "b"]},
        ],
    }
    files = bake._inputs(settings, ARCHIVE, "")
    assert text(files, "etc/apt/sources.list").splitlines() == ARCHIVE.lines()
    assert text(files, "etc/apt/sources.list.d/bcm.list").splitlines() == [
        "deb http://192.0.2.1/debian sid main",
        "deb http://192.0.2.3:81/own x a b",
    ]
    pins = [stanza.splitlines() for stanza in text(files, "etc/apt/preferences.d/bcm").split("\n\n")]
    assert pins == [
        ["Package: *", "Pin: release n=sid", "Pin-Priority: 100"],
        ["Package: *", 'Pin: origin "192.0.2.3"', "Pin-Priority: 100"],
    ]


def test_extra_sources_come_from_where_the_base_came_from() -> None:
    present = "deb [signed-by=/k] http://192.0.2.9/debian trixie main\n"
    files = bake._inputs({**NONE, "image_sources": [{"suite": "sid"}]}, None, present)
    assert text(files, "etc/apt/sources.list.d/bcm.list") == "deb http://192.0.2.9/debian sid main\n"
    assert "etc/apt/sources.list" not in files


def test_keyrings_of_a_builder(tmp_path: Path) -> None:
    (tmp_path / "main").write_text("main keys")
    (tmp_path / "own").write_text("own keys")
    sources = [{"suite": "sid"}, {"suite": "x", "mirror": "http://192.0.2.3/own", "keyring": str(tmp_path / "own")}]
    files = bake._inputs({**NONE, "image_keyring": str(tmp_path / "main"), "image_sources": sources}, ARCHIVE, "")
    main, own = "usr/share/keyrings/bcm-archive.gpg", "usr/share/keyrings/bcm-1.gpg"
    assert (text(files, main), text(files, own)) == ("main keys", "own keys")
    assert text(files, "etc/apt/sources.list.d/bcm.list").splitlines() == [
        f"deb [signed-by=/{main}] http://192.0.2.1/debian sid main",
        f"deb [signed-by=/{own}] http://192.0.2.3/own x main",
    ]
    assert all(f"signed-by=/{main}" in line for line in text(files, "etc/apt/sources.list").splitlines())


def test_options_and_certificates_of_a_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.crt").write_text("b")
    (tmp_path / "a.crt").write_text("a")
    (tmp_path / "c.pem").write_text("c")
    monkeypatch.setattr(bake, "_CERTIFICATES", tmp_path)
    files = bake._inputs({"image_apt_options": ["Acquire::Check-Valid-Until=false"]}, None, "")
    assert text(files, "etc/apt/apt.conf.d/99-bcm-builder") == 'Acquire::Check-Valid-Until "false";\n'
    assert {name: text(files, name) for name in files if name.endswith(".crt")} == {
        "usr/local/share/ca-certificates/bcm-0.crt": "a",
        "usr/local/share/ca-certificates/bcm-1.crt": "b",
    }
    files = bake._inputs({"image_ca_certificates": [str(tmp_path / "c.pem")]}, None, "")
    assert text(files, "usr/local/share/ca-certificates/bcm-0.crt") == "c"


def test_suites_that_a_stack_comes_from_are_sources_once() -> None:
    given = [{"suite": "sid"}, {"suite": "trixie-backports", "mirror": "http://192.0.2.3/own"}]
    settings = {**NONE, "image_sources": given}
    files = bake._inputs(
        {**settings, "image_sources": bake._extra_sources(["sid", "trixie-backports"], settings)}, ARCHIVE, ""
    )
    assert text(files, "etc/apt/sources.list.d/bcm.list").splitlines() == [
        "deb http://192.0.2.1/debian sid main",
        "deb http://192.0.2.3/own trixie-backports main",
        "deb http://192.0.2.1/debian trixie-backports main",
    ]


def test_a_builder_reaches_what_apt_has_on_the_loopback_of_its_own_machine_alone(machine: Machine) -> None:
    machine.set('Acquire::http::Proxy "http://me:secret@localhost:3142";')
    settings = {"image_mirror": "http://127.0.0.1/debian"}
    extra = [{"suite": "x", "mirror": "https://[::1]:8443/own"}, {"suite": "sid"}, {"suite": "y", "mirror": None}]
    here = Endpoint("/run/lxd.socket", "http+unix://x", "/run/lxd.socket")
    there = Endpoint("ssh://root@box", "http+unix://x", "/run/tunnel.socket")
    needed = ["127.0.0.1:3142", "127.0.0.1:80", "[::1]:8443"]
    assert bake._near(here, "build-x", settings, extra) == needed
    with pytest.raises(
        BcmError, match=r"127.0.0.1:3142, .* of this machine, which the builder build-x on ssh://root@box"
    ):
        bake._near(there, "build-x", settings, extra)
    assert bake._near(there, "build-x", {}, [], socks="10.80.16.9:9050") == [], "Tor is the only way"
    machine.set("")
    assert bake._near(there, "build-x", {"image_mirror": "http://192.0.2.1/debian"}, [{"suite": "sid"}]) == []


def test_everything_of_a_builder_is_taken_out_again(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    settings = {
        "image_sources": [{"suite": "sid", "keyring": str(tmp_path / "x")}],
        "image_keyring": str(tmp_path / "x"),
        "image_apt_options": ["A=b"],
        "image_ca_certificates": [str(tmp_path / "x")],
    }
    for name in bake._inputs(settings, ARCHIVE, ""):
        assert f"/{name}" in bake._FINISH or f"/{Path(name).parent}/bcm-*{Path(name).suffix}" in bake._FINISH


def test_a_file_that_cannot_be_read() -> None:
    with pytest.raises(BcmError, match=r"/nowhere/x.crt, named in image_ca_certificates, cannot be read: No such file"):
        bake._inputs({"image_ca_certificates": ["/nowhere/x.crt"]}, None, "")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("v0.11.1\n", "0.11.1"),
        ("Bitcoin Knots daemon version v29.4.knots20260508 bitcoind\nCopyright (C) 2009-2026\n", "29.4"),
        ("Bitcoin Core daemon version v31.1rc2 bitcoind\n", "31.1rc2"),
        ("Tor version 0.4.9.15-rc.\n", "0.4.9.15-rc"),
        ("Tor version 0.4.9.15.\nTor is running on Linux with Libevent 2.1.12\n", "0.4.9.15"),
    ],
)
def test_versions(monkeypatch: pytest.MonkeyPatch, said: str, version: str) -> None:
    monkeypatch.setattr(bake.lxd_exec, "run", lambda *args, **kwargs: ExecResult(0, said.encode(), b""))
    assert bake.version(None, "builder", "x", ["x", "--version"]) == version  # type: ignore[arg-type]


@pytest.mark.parametrize("result", [ExecResult(127, b"", b"x: not found"), ExecResult(0, b"who knows", b"")])
def test_a_program_without_a_version_raises(monkeypatch: pytest.MonkeyPatch, result: ExecResult) -> None:
    monkeypatch.setattr(bake.lxd_exec, "run", lambda *args, **kwargs: result)
    with pytest.raises(BcmError, match=r"Image of x: `x --version` says no version .*(not found|who knows)"):
        bake.version(None, "builder", "x", ["x", "--version"])  # type: ignore[arg-type]


def test_floors() -> None:
    floor = {"versions": ["31.1", "30.3"], "why": "an address leak"}
    assert bake.below_floor("bitcoind", "31.1", floor) is None
    assert bake.below_floor("bitcoind", "1.0", None) is None
    assert (
        bake.below_floor("bitcoind", "31.0", floor) == "bitcoind 31.0 is below its floor 31.1 or 30.3 (an address leak)"
    )


def builder(owner: str, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    return {"config": {"user.bcm.builder": owner}, "created_at": created}


def test_a_builder_is_in_use_while_its_process_runs() -> None:
    host, pid = socket.gethostname(), os.getpid()
    started = bake._started(str(pid))
    assert bake._is_at_work(builder(f"{host}:{pid}:{started}"))
    # The number of a process that ended, given to another one since.
    assert not bake._is_at_work(builder(f"{host}:{pid}:{int(started) - 1}"))
    assert not bake._is_at_work(builder(f"{host}:4194305:{started}"))
    assert not bake._is_at_work(builder("other:1:1"))
    for owner in ("", host, f"{host}:{pid}", f"{host}:²:{started}", f"{host}:../{pid}:{started}"):
        assert not bake._is_at_work(builder(owner))
    assert bake._is_at_work(builder("other:1:1", "2199-01-01T00:00:00.123456789Z"))
