# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checkout of its own with the command in it, a terminal to type at, and instances that cost little."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultSecretsContext
from pysequoia import Tsk

from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names
from ansible_collections.bcm.core.plugins.module_utils._ca import pki
from ansible_collections.bcm.core.plugins.module_utils._ca.authority import Authority
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._ca.trezor import Trezor
from ansible_collections.bcm.core.plugins.module_utils._datacenter.identity import lock_name
from ansible_collections.bcm.core.plugins.module_utils._lxd import exec as lxd_exec
from ansible_collections.bcm.core.plugins.module_utils._lxd import lease
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import AnsibleVault
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.artifact.test_artifacts import NAMES, Project, Server
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca.double import Double, Settings
from bcm_cli import image, setup
from bcm_cli.datacenter import DataCenter
from tests.support import LXD_DIR, PATIENCE, ROOT, Tools, until

PROJECT = "bcm-local-regtest"


@pytest.fixture(autouse=True)
def passwords_of_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a data center gives Ansible for the whole process ends with the test."""
    monkeypatch.setattr(VaultSecretsContext, "_current", None)


class Terminal:
    """A command on a terminal of its own, with somebody who reads and types."""

    def __init__(self, argv: list[str], cwd: Path, environment: dict[str, str]) -> None:
        self.output = ""
        # what is read may end in the middle of a character
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                os.execve(argv[0], argv, environment)
            finally:
                os._exit(127)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))

    def reads(self, text: str) -> str:
        """What came until a text was there, the text included; that much is read then."""
        end = time.monotonic() + PATIENCE
        while text not in self.output:
            left = end - time.monotonic()
            if left <= 0 or not self._receive(left):
                os.killpg(self.pid, signal.SIGKILL)
                pytest.fail(f'"{text}" did not come, but: {self.output}', pytrace=False)
        before, _found, self.output = self.output.partition(text)
        return before + text

    def reads_seconds(self, step: str) -> int:
        """What the line of a step next says of how long it lasts. Not each second has a line of its own."""
        self.reads(f"{step} (")
        minutes, seconds = self.reads(")").rstrip(")").split(":")
        return 60 * int(minutes) + int(seconds)

    def types(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def ends(self) -> int:
        """The exit status; `output` is all that was not read yet."""
        end = time.monotonic() + PATIENCE
        while self._receive(max(0.0, end - time.monotonic())):
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                pytest.fail(f"it did not end, but said: {self.output}", pytrace=False)
        _pid, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)

    def _receive(self, seconds: float) -> bool:
        if not select.select([self.fd], [], [], seconds)[0]:
            return seconds > 0
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # the other side has closed it
            return False
        self.output += self._decoder.decode(data).replace("\r\n", "\n")
        return bool(data)


@dataclass(frozen=True)
class Checkout:
    """A copy of the command and the collection, so that tests may write beside them."""

    home: Path
    environment: dict[str, str]

    @property
    def command(self) -> list[str]:
        """What `bcm` becomes once it is in its virtual environment, which saves a third of what most verbs cost."""
        return [str(self.home / ".venv/bin/python"), str(self.home / "bcm")]

    def bcm(
        self, *words: str, stdin: bytes | None = None, seconds: float = PATIENCE, **more: str
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.command, *words], cwd=self.home, env={**self.environment, **more},
            input=stdin if stdin is not None else b"", capture_output=True, timeout=seconds, check=False,
        )  # fmt: skip
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode()
        )

    def runs(self, program: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A program of Ansible, whose output is that of `bcm`."""
        own = {"ANSIBLE_CONFIG": str(self.home / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "bcm.core.progress"}
        return subprocess.run(
            [self.home / ".venv/bin" / program, *words], cwd=self.home, env={**self.environment, **own},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def terminal(self, *words: str, **more: str) -> Terminal:
        environment = {**self.environment, "TERM": "xterm", **more}
        return Terminal([*self.command, *words], self.home, environment)

    def settings(self, name: str = "local") -> Path:
        return self.home / "inventories" / name / "group_vars" / "all.yml"


def checkout_at(home: Path) -> Checkout:
    """Copy what the command needs. The collection and the virtual environment are shared: no test writes there."""
    setup.virtual_environment()
    things = ("bcm", "bcm-vault-client", "bcm_cli", "inventories", "site.yml", "ansible.cfg")
    # what another process is about to have compiled has a name that it soon has no more
    not_copied = shutil.ignore_patterns("secrets", "*.pyc.*")
    for name in (*things, *(path.name for path in ROOT.glob("requirements*.txt"))):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, home / name, ignore=not_copied)
        else:
            home.mkdir(exist_ok=True)
            shutil.copy2(ROOT / name, home / name)
    (home / "collections").symlink_to(ROOT / "collections")
    (home / ".venv").symlink_to(setup.VENV)
    environment = {key: value for key, value in os.environ.items() if key not in ("BCM_ENDPOINT", "LXD_DIR")}
    return Checkout(home, {**environment, "LXD_DIR": str(home / "no-lxd"), "LC_ALL": "C.UTF-8"})


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Without any LXD."""
    return checkout_at(tmp_path / "bcm")


@dataclass(frozen=True)
class Safe:
    """Data center "home" on signet, whose root key and vault are on a Trezor that is plugged in."""

    checkout: Checkout
    double: Double

    @property
    def secrets(self) -> Path:
        return self.checkout.home / "inventories/home/secrets"

    def bcm(
        self, *words: str, stdin: bytes | None = None, seconds: float = PATIENCE, **more: str
    ) -> subprocess.CompletedProcess[str]:
        return self.checkout.bcm("-d", "home", *words, stdin=stdin, **more)

    def runs(self, *argv: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, without a terminal."""
        path = f"{self.checkout.home}/.venv/bin{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            argv, cwd=cwd or self.checkout.home, env={**self.checkout.environment, "PATH": path, **more},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=PATIENCE, start_new_session=True,
        )  # fmt: skip

    def confirmed(self) -> list[str]:
        """What was confirmed on the screen since this was last asked, the last line of each."""
        shown = [confirmation["screen"][-1] for confirmation in self.double.confirmations]
        self.double.confirmations.clear()
        return shown

    def root(self) -> None:
        """Have a root on the device."""

        def opener(_keys: object, _where: object, *, first: bool, confirmations: int) -> Trezor:
            return Trezor(self.double.path, first=first)

        with Trezor(self.double.path, first=True) as used:
            password = used.vault_secret("home")
        store = AuthorityFiles(self.secrets, "signet", vault=AnsibleVault("home", password.encode()))
        Authority(store, pki.parse_scope(["home-signet.bcm"], []), "trezor", opener).ensure_root(None, allow_new=True)
        self.confirmed()

    def wait_for(self, shown: str) -> None:
        """Until it is on the screen."""
        until(lambda: any(shown in item["screen"] for item in self.double.confirmations), f'"{shown}" on the screen')


@pytest.fixture
def safe(checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Safe]:
    """Its device is one on which the passphrase is typed."""
    local, home = (checkout.home / "inventories" / name for name in ("local", "home"))
    shutil.copytree(local, home)
    (home / "group_vars/all.yml").write_text("bcm_datacenter: home\nbcm_chain: signet\n")
    (tmp_path / "run").mkdir(mode=0o700)
    with Double(Settings(model="T2T1", version=(2, 3, 6))) as double:
        own = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "TREZOR_PATH": double.path}
        for name, value in own.items():  # the tests themselves talk to it, too
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("BCM_TREZOR_SESSION", raising=False)
        environment = {key: value for key, value in checkout.environment.items() if key != "BCM_TREZOR_SESSION"}
        yield Safe(Checkout(checkout.home, {**environment, **own}), double)


STACK = """---
schema: 1
description: What a test publishes
tier: bitcoin
chains: [regtest, signet]
artifact:
  version_command: [thing, --version]
  floor: {{versions: ["0.9"], why: it was worse before}}
  sources:
    release:
      kind: archive
      name: thing
      licence: MIT
      version: '1.0'  # the newest
      files:
        x86_64: {{url: "{url}/up/{{version}}/thing-{{version}}-x86_64.tar.gz", sha256: {x86_64}}}
        # slower
        aarch64:
            url:   {url}/up/{{version}}/thing-{{version}}-aarch64.tar.gz
            sha256:   "{aarch64}"   # aligned
      signed:
        sums: {url}/up/{{version}}/SHA256SUMS
        signatures: {url}/up/{{version}}/SHA256SUMS.asc
        threshold: 3
        signers: {{{signers}}}
    debian: {{kind: deb, name: thing, licence: MIT}}
"""


@dataclass(frozen=True)
class Published:
    """A stack of a data center without others to fetch, and the project that publishes what it is made of."""

    checkout: Checkout
    project: Project
    server: Server

    def bcm(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.checkout.bcm(*words, XDG_CACHE_HOME=str(self.cache))

    def terminal(self, *words: str) -> Terminal:
        return self.checkout.terminal(*words, XDG_CACHE_HOME=str(self.cache))

    def wait_for(self, path: str) -> None:
        """Until the server was asked for it."""
        until(lambda: path in self.server.asked, f"somebody asks for {path}")

    @property
    def cache(self) -> Path:
        return self.project.home / "cache"

    @property
    def stack(self) -> Path:
        return self.project.home / "stacks/thing/meta/stack.yml"

    def pin(self) -> None:
        """Write the stack.yml, with what is published as its version 1.0."""
        release = self.project.release()
        assert release.signed
        digests = {name: pin.digest for name, pin in release.files.items()}
        signers = ", ".join(f"{name}: {fingerprint}" for name, fingerprint in release.signed.signers.items())
        self.stack.parent.mkdir(parents=True, exist_ok=True)
        self.stack.write_text(STACK.format(url=self.server.url, signers=signers, **digests))

    def set(self, **settings: str) -> None:
        path = self.checkout.settings()
        kept = [line for line in path.read_text().splitlines() if line.partition(":")[0] not in settings]
        path.write_text("\n".join([*kept, *(f"{name}: {value}" for name, value in settings.items()), ""]))


@pytest.fixture(scope="session")
def builders() -> dict[str, Tsk]:
    return {name: Tsk.generate(name) for name in (*NAMES, "stranger")}


@pytest.fixture
def published(checkout: Checkout, builders: dict[str, Tsk], tmp_path: Path) -> Iterator[Published]:
    with Server(tmp_path) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        project = Project(tmp_path, builders, server.url)
        made = Published(checkout, project, server)
        made.pin()
        project.keys.rename(made.stack.parent / "keys")
        project.keys = made.stack.parent / "keys"
        debian = {f"{name}_source": "debian" for name in ("bitcoind", "tor", "torrelay")}
        made.set(bcm_stack_path=str(tmp_path / "stacks"), **debian)
        yield made
        server.shutdown()


@pytest.fixture(scope="module")
def deployed(lxd_tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """With an LXD, and in it what looks like a data center: two instances of the base image that bear its marks."""
    with Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as client:
        ours = image.of(DataCenter("local"), client)
        # An image that nobody has makes the base be there, as it would have to be baked over it.
        wanted = {"stack": "none", "hash": "0" * 64, "alias": "none", "base_hash": ours.base_hash, "floor": None}
        base = ours.present([wanted])["base"]
        config = {"features.images": "false", "features.profiles": "true", "user.bcm.datacenter": "local"}
        client.call("POST", "/1.0/projects", {"name": PROJECT, "config": config}, what="make a project", project=None)
        for name in ("bitcoind", "electrum"):
            body = {
                "name": name,
                "source": {"type": "image", "alias": base},
                "config": {"user.bcm.stack": name, "boot.host_shutdown_timeout": "5"},
                "devices": {"root": {"type": "disk", "path": "/", "pool": "default"}},
                "profiles": [],
            }
            client.call("POST", "/1.0/instances", body, what=f"make {name}")
            client.call("PUT", f"/1.0/instances/{name}/state", {"action": "start"}, what=f"start {name}")
            up = "until systemctl is-system-running --wait 2>/dev/null | grep -E 'running|degraded'; do sleep 0.2; done"
            lxd_exec.run(client, name, lxd_exec.Command(["sh", "-c", up]), deadline=PATIENCE)
        try:
            made = checkout_at(tmp_path_factory.mktemp("checkout") / "bcm")
            yield Checkout(made.home, {**made.environment, "LXD_DIR": str(LXD_DIR)})
        finally:
            for name in ("bitcoind", "electrum"):
                stop = {"action": "stop", "force": True}
                client.call("PUT", f"/1.0/instances/{name}/state", stop, what=f"stop {name}")
                client.call("DELETE", f"/1.0/instances/{name}", what=f"delete {name}")
            client.call("DELETE", f"/1.0/projects/{PROJECT}", what="delete the project", project=None)


def inside(instance: str, script: str, stdin: bytes = b"") -> str:
    """What a shell in an instance prints."""
    with Client(str(LXD_DIR / "unix.socket"), project=PROJECT) as client:
        done = lxd_exec.run(client, instance, lxd_exec.Command(["sh", "-c", script], stdin=stdin), deadline=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@contextmanager
def changing(datacenter: str) -> Iterator[None]:
    """A run that changes a data center, on regtest."""
    project = datacenter_names(datacenter, "regtest").project
    with subprocess.Popen(["sleep", "600"]) as run, Client(str(LXD_DIR / "unix.socket")) as client:
        try:
            options = {"endpoint": str(LXD_DIR / "unix.socket")}
            lease.hold(client, options, lock_name(project), f"Data center {datacenter} (regtest)", run.pid)
            yield
        finally:
            run.kill()
        until(lambda: not client.find(f"/1.0/profiles/{lock_name(project)}", project="default"), "the end of the lock")
