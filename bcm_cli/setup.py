# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install what verbs need: system packages and the virtual environment. Standard library only."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.locks import hold_lock
from ansible_collections.bcm.core.plugins.module_utils._base.text import shown

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
REQUIREMENTS = ROOT / "requirements.txt"
# Ansible has many objects, few of them in cycles, and starts a process for each task of each instance. To look for
# cycles after each 700 new objects, which copies what the processes share, took 7 % of a run of all stacks.
_RARE_COLLECTION = "import gc; gc.set_threshold(50_000, 20, 100)\n"
# An ordinary user's PATH often lacks the sbin directories.
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin", "/snap/bin"])
_SYSTEMD = "/run/systemd/system"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: a variable that keeps Python from writing what it compiles; images of Python for containers set it
NEVER_COMPILED = "PYTHONDONTWRITEBYTECODE"


@dataclass(frozen=True)
class Package:
    """A system package: ``gives`` is a file, or a program (one of several), that shows that it is installed.

    ``masked`` are units of it that must not start.
    """

    name: str
    gives: str
    reason: str
    snap: bool = False
    masked: tuple[str, ...] = ()

    def missing(self) -> bool:
        if self.gives.startswith("/"):
            return not os.path.exists(self.gives)
        return not any(which(program) for program in self.gives.split("|"))


IMAGE_PACKAGES = (
    Package("mmdebstrap", "mmdebstrap", "makes the base image"),
    Package("zstd", "zstd", "packs the base image"),
    Package("debian-archive-keyring", _KEYRING, "verifies Debian's packages"),
    Package("uidmap", "newuidmap", "gives containers separate user ids"),
)
LXD_TOOLS = (
    Package("btrfs-progs", "mkfs.btrfs", "lets LXD copy containers instantly"),
    Package("dnsmasq-base", "dnsmasq", "gives the containers addresses and names"),
    Package("nftables", "nft|iptables", "isolates the containers' networks"),
)
LXD_PACKAGES = (Package("lxd", "lxd", "runs the containers"), *LXD_TOOLS)
# On Ubuntu LXD is a snap, which brings all it needs with it.
LXD_SNAPS = (
    Package("snapd", "snap", "installs LXD"),
    Package("lxd", "/snap/bin/lxd", "runs the containers", snap=True),
)
SSH_PACKAGES = (Package("openssh-client", "ssh", "reaches the endpoint"),)
_PINENTRY = Package("pinentry-curses", "pinentry", "asks for the passphrase of the Trezor")
MULTIPASS_PACKAGES = (
    Package("snapd", "snap", "installs multipass"),
    Package("multipass", "multipass", "runs virtual machines", snap=True),
    *SSH_PACKAGES,
)
SSH_AGENT_PACKAGES = (*SSH_PACKAGES, _PINENTRY)
GPG_PACKAGES = (Package("gnupg", "gpg", "reads and writes OpenPGP"), _PINENTRY)
PASS_PACKAGES = (Package("pass", "pass", "keeps the passwords"), *GPG_PACKAGES)
BROWSERS = "chromium|chromium-browser|google-chrome-stable|google-chrome|brave-browser"
BROWSER_PACKAGES = (
    Package("chromium", BROWSERS, "shows the pages of stacks"),
    Package("libnss3-tools", "certutil", "has the browser trust the data center's root"),
)
WINDOW_PACKAGES = (Package("xauth", "xauth", "shows the container's window on your screen"),)


def version() -> str:
    """Return the version of the collection."""
    galaxy = ROOT / "collections/ansible_collections/bcm/core/galaxy.yml"
    found = re.search(r"^version: (\S+)$", galaxy.read_text(encoding="utf-8"), re.M)
    return found[1] if found else "unknown"


def step(text: str) -> None:
    """Print a line about what is being done, on stderr, because stdout is for the answer."""
    print(f"bcm: {shown(text)}", file=sys.stderr, flush=True)


def which(program: str) -> str | None:
    return shutil.which(program, path=_PATH)


def sudo() -> list[str]:
    """Return the prefix of a command that needs root; asks for the password before output hides the prompt."""
    if os.geteuid() == 0:
        return []
    if not which("sudo"):
        raise BcmError(
            "This", "needs root, and sudo is not installed", "run the same command as root", code="missing_program"
        )
    if subprocess.run(["sudo", "-v"], check=False).returncode:
        raise BcmError("This", "needs root, and sudo refused", "run the same command as root", code="forbidden")
    return ["sudo"]


def run_quietly(what: str, argv: list[str]) -> None:
    """Run a slow command: shows one line, with the time on a terminal, and the command's output if it fails."""
    begun = time.monotonic()
    live = sys.stderr.isatty()
    if not live:
        step(f"{what} …")
    with tempfile.TemporaryFile() as output, subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, "PATH": _PATH}
    ) as child:
        try:
            while child.poll() is None:
                if live:
                    seconds = time.monotonic() - begun
                    print(f"\r\033[Kbcm: {what} … {seconds:.0f} s", end="", file=sys.stderr, flush=True)
                try:
                    child.wait(1)
                except subprocess.TimeoutExpired:
                    continue
        except KeyboardInterrupt:
            child.wait()
            raise
        finally:
            if live:
                print(file=sys.stderr)
        if child.returncode:
            output.seek(0)
            words = output.read().decode(errors="replace").strip().splitlines()[-15:]
            ended = "\n  ".join([f"{' '.join(argv)} ended with {child.returncode}", *words])
            raise BcmError(f"{what}:", ended, code="command_failed")


def ask_permission(question: str, yes: bool, remedy: str) -> None:
    """Ask for permission, unless --yes was given; raises BcmError with what to type instead."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BcmError(
            "Cannot ask for confirmation:",
            "standard input is not a terminal",
            f"either {remedy}, or run this again with --yes",
            code="confirmation_needed",
        )
    print(f"bcm: {question} [Y/n] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
        raise BcmError("Nothing was installed", remedy=remedy, code="cancelled")


def confirm(question: str, yes: bool, otherwise: str) -> None:
    """Ask for confirmation, unless --yes was given; raises BcmError with ``otherwise``."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise BcmError(otherwise, remedy="run it on a terminal, or add --yes", code="confirmation_needed")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BcmError(otherwise, code="cancelled")


def packages(wanted: tuple[Package, ...], yes: bool) -> None:
    """Install missing packages with apt or snap."""
    missing = [package for package in wanted if package.missing()]
    if not missing:
        return
    apt = ["apt-get", "install", "-y", *(package.name for package in missing if not package.snap)]
    snaps = [["snap", "install", package.name] for package in missing if package.snap]
    commands = ([apt] if len(apt) > 3 else []) + snaps
    by_hand = " && ".join(" ".join(["sudo", *command]) for command in commands)
    for package in missing:
        step(f"missing: {package.name}, which {package.reason}")
    if not which("apt-get"):
        raise BcmError(
            "There is no apt on this machine",
            remedy="install these with its own package manager",
            code="missing_program",
            about="apt",
        )
    ask_permission("Install with apt?" if not snaps else "Install with apt and snap?", yes, f"type `{by_hand}`")
    root = sudo()
    masked = [unit for package in missing for unit in package.masked]
    if masked and os.path.isdir(_SYSTEMD):
        run_quietly(f"Keep {' and '.join(masked)} from starting", [*root, "systemctl", "mask", *masked])
    if len(apt) > 3:
        run_quietly("Read the package lists", [*root, "apt-get", "update"])
    for command in commands:
        environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
        run_quietly(f"Install {', '.join(command[2:]).replace('-y, ', '')}", [*root, *environment, *command])


def virtual_environment(
    venv: Path = VENV, requirements: Path = REQUIREMENTS, yes: bool = False, build: Path | None = None
) -> None:
    """Create the virtual environment, unless one exists that was completed from exactly these requirements.

    ``build`` has the build requirements of those published as source only; otherwise pip would download them unlocked.
    The stamp is written last, so an incomplete environment never counts.
    """
    stamp = venv / "bcm-requirements"
    files = [file for file in (build, requirements) if file]

    def current() -> bool:
        return stamp.is_file() and stamp.read_text(encoding="ascii") == _stamp(venv, files)

    if current():
        return
    if importlib.util.find_spec("ensurepip") is None:
        packages((Package("python3-venv", "/nonexistent", "creates Python's virtual environments"),), yes)
    with hold_lock(requirements):  # concurrent commands would create the same environment
        if current():
            return
        shutil.rmtree(venv, ignore_errors=True)
        run_quietly("Create the virtual environment", [sys.executable, "-m", "venv", str(venv)])
        pip = [*(str(venv / "bin" / "python"), "-m", "pip", "install"), "--disable-pip-version-check"]
        if not os.environ.get(NEVER_COMPILED):
            pip.append("--no-compile")  # Python compiles what it loads; all of it first would take as long as the rest
        for file in files:
            options = ["--no-build-isolation"] * (build is not None) + ["--require-hashes", "-r", str(file)]
            run_quietly(f"Install {file.name} in it", [*pip, *options])
        for packages_of_it in venv.glob("lib/python*/site-packages"):
            (packages_of_it / "bcm.pth").write_text(_RARE_COLLECTION, encoding="ascii")
        stamp.write_text(_stamp(venv, files), encoding="ascii")


def enter(script: str, argv: list[str], yes: bool = False) -> None:
    """Continue in the virtual environment: if this is another Python, run the script again there."""
    if Path(sys.prefix) != VENV:
        virtual_environment(yes=yes)
        python = str(VENV / "bin" / "python")
        os.execv(python, [python, str(ROOT / script), *argv])


def _stamp(venv: Path, files: list[Path]) -> str:
    # The interpreter is part of it: a distribution's upgrade changes what python3 points to.
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return f"{digest} {os.path.realpath(venv / 'bin' / 'python')}\n"


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yield a temporary folder that only its owner can read, in memory if possible."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    with tempfile.TemporaryDirectory(prefix="bcm-", dir=runtime if os.access(runtime, os.W_OK) else None) as folder:
        yield Path(folder)
