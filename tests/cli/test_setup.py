# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine needs. The virtual environment is made for real.

apt, snap and sudo are programs that write down how they were called: installing packages is proved by every machine on
which these tests run, which had none of them before, and snap cannot run where there is no systemd.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from bcm_cli import lxd_setup, setup
from bcm_cli.setup import Package
from tests.cli.conftest import Terminal
from tests.support import ROOT

MISSING = (Package("gnat", "no-such-program|nor-this", "bites"), Package("gnu", "/no/such/file", "grazes"))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs that write down their words, and the file they write to."""
    written = tmp_path / "calls"
    written.touch()
    for name in ("apt-get", "snap", "sudo", "systemctl"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$(basename "$0") $*" >>{written}\n')
        program.chmod(0o755)
    monkeypatch.setattr(setup, "_PATH", f"{tmp_path}:{setup._PATH}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return written


def test_installed_packages_are_not_asked_for(calls: Path) -> None:
    setup.packages((Package("coreutils", "no-such-program|ls", ""), Package("files", "/etc/passwd", "")), yes=False)
    assert calls.read_text() == ""


@pytest.mark.parametrize("systemd", [True, False])
def test_services_of_installed_packages_are_masked(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, systemd: bool
) -> None:
    monkeypatch.setattr(setup, "_SYSTEMD", str(tmp_path if systemd else tmp_path / "none"))
    setup.packages((Package("loud", "no-such-program", "", masked=("loud.service",)),), yes=True)
    done = calls.read_text().splitlines()
    assert done[:-2] == (["systemctl mask loud.service"] if systemd else [])
    assert done[-1] == "apt-get install -y loud"


def test_yes_answers_the_question(calls: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup.packages(MISSING, yes=True)
    assert calls.read_text().splitlines() == ["apt-get update", "apt-get install -y gnat gnu"]
    assert "bcm: missing: gnat, which bites\nbcm: missing: gnu, which grazes\n" in capsys.readouterr().err


def test_snapd_is_installed_before_a_snap(calls: Path) -> None:
    snap = Package("lxd", "no-such-program", "runs the containers", snap=True)
    setup.packages((*MISSING[:1], snap), yes=True)
    assert calls.read_text().splitlines() == ["apt-get update", "apt-get install -y gnat", "snap install lxd"]


def test_command_is_named_without_a_terminal(calls: Path) -> None:
    with pytest.raises(
        setup.BcmError, match=re.escape("type `sudo apt-get install -y gnat gnu`, or run this again with --yes")
    ):
        setup.packages(MISSING, yes=False)
    assert calls.read_text() == ""


@pytest.mark.parametrize(("answer", "status"), [("\n", 0), ("y\n", 0), ("n\n", 1)])
def test_person_is_asked_before_packages_are_installed(tmp_path: Path, answer: str, status: int) -> None:
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n')
    apt.chmod(0o755)
    script = f"""
import os, sys
sys.path[:0] = ["{ROOT}", "{ROOT}/collections"]
from bcm_cli import setup
os.geteuid = lambda: 0
setup._PATH = "{tmp_path}:" + setup._PATH
try:
    setup.packages((setup.Package("gnat", "no-such-program", "bites"),), yes=False)
except setup.BcmError as error:
    sys.exit(str(error))
"""
    terminal = Terminal([sys.executable, "-c", script], tmp_path, dict(os.environ))
    terminal.reads("missing: gnat, which bites")
    terminal.reads("Install with apt? [Y/n] ")
    terminal.types(answer)
    assert terminal.ends() == status
    assert (tmp_path / "calls").exists() == (status == 0)
    if status:
        assert "Nothing was installed: type `sudo apt-get install -y gnat`" in terminal.output


def test_ordinary_user_installs_with_sudo(calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", setup._PATH)
    setup.packages(MISSING, yes=True)
    install = "env DEBIAN_FRONTEND=noninteractive apt-get install -y gnat gnu"
    assert calls.read_text().splitlines() == ["sudo -v", "sudo apt-get update", f"sudo {install}"]


def test_missing_sudo_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(setup, "_PATH", str(tmp_path))
    with pytest.raises(setup.BcmError, match="sudo is not installed: run the same command as root"):
        setup.sudo()


def test_failed_command_is_quoted() -> None:
    command = ["sh", "-c", "echo the disk is full; exit 7"]
    with pytest.raises(setup.BcmError, match="Install gnat: sh -c .* ended with 7\n  the disk is full"):
        setup.run_quietly("Install gnat", command)


def test_long_command_ticks_on_a_terminal(tmp_path: Path) -> None:
    script = f'import sys; sys.path[:0] = ["{ROOT}", "{ROOT}/collections"]\n'
    script += 'from bcm_cli import setup; setup.run_quietly("Sleep", ["sleep", "6"])'
    terminal = Terminal([sys.executable, "-c", script], tmp_path, dict(os.environ))

    def seconds() -> int:
        terminal.reads("bcm: Sleep … ")
        return int(terminal.reads(" s").removesuffix(" s"))

    first = seconds()
    while seconds() <= first:
        pass
    assert terminal.ends() == 0


@pytest.mark.parametrize(
    ("text", "ubuntu"), [("ID=debian\n", False), ("ID=ubuntu\n", True), ('ID=mint\nID_LIKE="ubuntu debian"\n', True)]
)
def test_lxd_package_of_the_distribution_is_chosen(
    text: str, ubuntu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = tmp_path / "os-release"
    release.write_text(text)
    monkeypatch.setattr(lxd_setup, "_OS_RELEASE", release)
    assert lxd_setup._is_ubuntu() == ubuntu


def test_transitional_package_of_ubuntu_is_not_taken_for_lxd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lxd").write_text("#!/bin/sh\n")
    (tmp_path / "lxd").chmod(0o755)
    monkeypatch.setattr(setup, "_PATH", str(tmp_path))
    for text, program in (("ID=debian\n", str(tmp_path / "lxd")), ("ID=ubuntu\n", None)):
        (tmp_path / "os-release").write_text(text)
        monkeypatch.setattr(lxd_setup, "_OS_RELEASE", tmp_path / "os-release")
        assert lxd_setup._program() == program


def test_pool_that_would_be_too_small_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 10 * 2**30
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    assert lxd_setup.pool_gib(str(tmp_path)) == 8
    free -= 1
    with pytest.raises(BcmError, match=rf"can have 7 GiB in {tmp_path} and needs 8 GiB: free some space"):
        lxd_setup.pool_gib(str(tmp_path))


# -- the virtual environment ------------------------------------------------------------------------------------------


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    """One small library of those that are locked."""
    locked = re.search(r"^idna==.*?(?=^\w)", (ROOT / "requirements.txt").read_text(), re.M | re.S)
    assert locked
    file = tmp_path / "requirements.txt"
    file.write_text(locked[0])
    return file


def works(venv: Path) -> bool:
    return subprocess.run([venv / "bin/python", "-c", "import idna"], check=False, capture_output=True).returncode == 0


def collects_after(venv: Path, *options: str) -> int:
    """How many new objects make Python look for cycles."""
    script = "import gc; print(gc.get_threshold()[0])"
    return int(subprocess.run([venv / "bin/python", *options, "-c", script], capture_output=True, check=True).stdout)


def is_compiled(venv: Path) -> bool:
    return any(venv.glob("lib/python*/site-packages/idna/__pycache__/*.pyc"))


def test_virtual_environment_is_created_once(
    tmp_path: Path, requirements: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "venv"
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    setup.virtual_environment(venv, requirements)
    assert not is_compiled(venv)
    assert works(venv)
    assert collects_after(venv) > collects_after(venv, "-S")
    assert capsys.readouterr().err.splitlines() == [
        "bcm: Create the virtual environment …",
        "bcm: Install requirements.txt in it …",
    ]
    setup.virtual_environment(venv, requirements)
    assert capsys.readouterr().err == ""
    # It is made again for other requirements, and for another interpreter.
    stamps = {setup._stamp(venv, [requirements])}
    requirements.write_text(requirements.read_text() + "\n")
    stamps.add(setup._stamp(venv, [requirements]))
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/bin/true")
    assert len({*stamps, setup._stamp(venv, [requirements])}) == 3
    # Where Python may not write what it compiles, each run would compile Ansible.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    setup.virtual_environment(venv, requirements)
    assert is_compiled(venv)
    assert capsys.readouterr().err
    assert works(venv)


def test_environment_of_a_killed_run_is_completed(tmp_path: Path, requirements: Path) -> None:
    venv = tmp_path / "venv"
    script = f'import sys; sys.path[:0] = ["{ROOT}", "{ROOT}/collections"]; from pathlib import Path\n'
    script += f'from bcm_cli import setup; setup.virtual_environment(Path("{venv}"), Path("{requirements}"))'
    for moment in ("bin/python", "bin/pip"):
        victim = subprocess.Popen([sys.executable, "-c", script], start_new_session=True, stderr=subprocess.DEVNULL)
        while not (venv / moment).exists():
            assert victim.poll() is None
            time.sleep(0.01)
        os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        assert not (venv / "bcm-requirements").exists()
    setup.virtual_environment(venv, requirements)
    assert works(venv)


def test_two_runs_at_once_create_one_environment(tmp_path: Path, requirements: Path) -> None:
    venv = tmp_path / "venv"
    script = f'import sys; sys.path[:0] = ["{ROOT}", "{ROOT}/collections"]; from pathlib import Path\n'
    script += f'from bcm_cli import setup; setup.virtual_environment(Path("{venv}"), Path("{requirements}"))'
    both = [subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) for _turn in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(text.count("\n") for text in said) == [0, 2]
    assert works(venv)


def test_package_with_a_wrong_hash_is_refused(tmp_path: Path, requirements: Path) -> None:
    requirements.write_text(re.sub(r"sha256:\w+", f"sha256:{'0' * 64}", requirements.read_text()))
    with pytest.raises(setup.BcmError, match="(?s)Install requirements.txt in it: .*DO NOT MATCH THE HASHES"):
        setup.virtual_environment(tmp_path / "venv", requirements)
