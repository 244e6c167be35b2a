# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH, OpenPGP and passwords with the double as the device, and real gpg, pass, ssh, sshd and stock trezor-agent."""

from __future__ import annotations

import argparse
import base64
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.tests.unit.plugins.module_utils.ca import double as doubles
from bcm_cli import device_keys, setup
from bcm_cli.datacenter import UsageError
from tests.cli.conftest import Checkout, Terminal, checkout_at
from tests.support import PATIENCE, until
from tests.tornet import free_port

USER_ID = "DC1 Ops <ops@dc1.example>"
# what stock trezor-gpg made of official emulators' answers
FINGERPRINT = "95AD02104350D20CEEB5D5A0302CF1B3BBF7E56B"
PASSPHRASE = "dc1 passphrase"
ANOTHER = "it is the wrong passphrase or another device; nothing was signed or decrypted"


class Device:
    """The double as a program, and the person in front of it."""

    def __init__(self, folder: Path) -> None:
        self._settings, self._log = folder / "settings.json", folder / "log"
        self._port = free_port(kind=socket.SOCK_DGRAM)
        self.path = f"udp:127.0.0.1:{self._port}"
        self.set()
        self.plug()

    def set(self, **settings: Any) -> None:
        """Let it be a Model T and somebody confirm, but for these settings; and forget what was shown."""
        new = self._settings.with_suffix(".new")
        new.write_text(json.dumps({"model": "T2T1", "version": [2, 3, 6], **settings}))
        new.rename(self._settings)
        self._log.write_text("")

    def shown(self, *but: str) -> list[str]:
        """Kinds of what was on the screen; passphrases left out."""
        kinds = [json.loads(line)["kind"] for line in self._log.read_text().splitlines()]
        return [kind for kind in kinds if kind not in ("passphrase", *but)]

    def asked_passphrase(self) -> int:
        return self._log.read_text().count('"passphrase"')

    def plug(self) -> None:
        options = ["--port", str(self._port), "--settings", str(self._settings), "--log", str(self._log)]
        self._program = subprocess.Popen([sys.executable, doubles.__file__, *options])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.settimeout(0.1)
            caller.connect(("127.0.0.1", self._port))

            def answers() -> bool:
                try:
                    caller.send(b"PINGPING")
                    return caller.recv(64) == b"PONGPONG"
                except OSError:
                    return False

            until(answers, "the start of the double")

    def unplug(self) -> None:
        self._program.kill()
        self._program.wait()


class Site:
    """A data center of somebody who has the device."""

    def __init__(self, checkout: Checkout, device: Device, folder: Path) -> None:
        self.checkout, self.device, self.folder = checkout, device, folder

    def bcm(self, *words: str, status: int | None = 0, stdin: str = "", **more: str) -> str:
        """What it prints; or if it has to fail, what it says."""
        done = self.checkout.bcm(*words, stdin=stdin.encode(), **more)
        if status is not None:
            assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    @property
    def secrets(self) -> Path:
        return self.checkout.home / "inventories/local/secrets"

    @property
    def home(self) -> Path:
        return self.secrets / "gnupg"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("id")  # short, since agents' sockets are in it
    files = (setup.ROOT / f"requirements-{name}.txt" for name in ("agent", "build"))
    setup.virtual_environment(device_keys.VENV, next(files), False, next(files))
    made = checkout_at(folder / "bcm")
    (made.home / ".venv-agent").symlink_to(device_keys.VENV)
    device = Device(folder)
    kept = {name: value for name, value in made.environment.items() if name not in ("GPG_TTY", "BCM_TREZOR_SESSION")}
    (folder / "run").mkdir(mode=0o700)
    environment = {**kept, "TREZOR_PATH": device.path, "XDG_RUNTIME_DIR": str(folder / "run")}
    yield Site(Checkout(made.home, environment), device, folder)
    device.unplug()


@pytest.fixture(autouse=True)
def _somebody_confirms(site: Site) -> None:
    site.device.set()


@pytest.fixture
def keyed(site: Site) -> Site:
    """With the OpenPGP key."""
    if not site.home.exists():
        site.bcm("gpg", "init", USER_ID)
        site.device.set()
    return site


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., bytes]]:
    """gpg of somebody else, who has public keys only."""
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)

    def gpg(*words: str | Path, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", home, "--batch", "--trust-model", "always", *words]
        done = subprocess.run(command, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    yield gpg
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


# --- OpenPGP ---------------------------------------------------------------------------------------------------------


def test_key_is_created_once_and_leaves_no_log(site: Site) -> None:
    site.device.set(answers=["confirm", "confirm", "confirm", "cancel"])
    assert "cancelled on the device while signing" in site.bcm("gpg", "init", USER_ID, status=1)
    assert not site.home.exists()
    (site.home.with_name(".gnupg.new")).mkdir()  # of a run that was killed
    site.device.set()
    assert site.bcm("gpg", "init", USER_ID) == f"{FINGERPRINT}\n"
    assert site.device.shown() == ["sign", "sign"]
    assert site.device.asked_passphrase() == 2
    before = {path: path.read_bytes() for path in site.home.iterdir()}
    site.device.set()
    assert site.bcm("gpg", "init", USER_ID) == f"{FINGERPRINT}\n"
    assert (site.device.shown(), site.device.asked_passphrase()) == ([], 0)
    assert {path: path.read_bytes() for path in site.home.iterdir()} == before
    assert {path.name for path in before} <= {"gpg.conf", "pubring.kbx", "pubring.kbx~", "trustdb.gpg"}
    assert site.home.stat().st_mode & 0o777 == 0o700
    assert (site.secrets / ".gitignore").read_text() == "*\n"
    message = site.bcm("gpg", "init", "Bob <bob@dc1.example>", status=1)
    assert f'Data center local has the key of "{USER_ID}" already' in message


class Shell:
    """One that runs under `bcm gpg run`, for several commands."""

    def __init__(self, site: Site) -> None:
        command = [site.checkout.home / "bcm", "gpg", "run", "sh"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._shell = subprocess.Popen(command, env=site.checkout.environment, text=True, **pipes)

    def __call__(self, command: str) -> tuple[int, str]:
        """Exit status, and all that was said."""
        assert self._shell.stdin and self._shell.stdout
        self._shell.stdin.write(f"({command}) </dev/null; status=$?; echo; echo end $status\n")
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            if line.startswith("end "):
                return int(line.split()[1]), said.removesuffix("\n")
            said += line
        pytest.fail(f"the shell ended: {said}", pytrace=False)

    def close(self) -> None:
        self._shell.communicate(timeout=PATIENCE)


@pytest.fixture
def shell(keyed: Site) -> Iterator[Shell]:
    opened = Shell(keyed)
    yield opened
    opened.close()


def test_device_decrypts_what_others_encrypted(keyed: Site, stranger: Callable[..., bytes], shell: Shell) -> None:
    stranger("--import", stdin=keyed.bcm("gpg", "export").encode())
    assert keyed.device.shown() == []
    secret = keyed.folder / "backup-key.gpg"
    secret.write_bytes(stranger("--encrypt", "--recipient", FINGERPRINT, stdin=b"key of a backup"))
    decrypt = f"gpg --quiet --decrypt {secret}"
    status, said = shell(decrypt)
    assert (status, said.splitlines()[-1]) == (0, "key of a backup")
    assert keyed.device.shown() == ["ecdh"]

    # in a pipe, one gpg keeps its connection to the agent while the other needs an answer
    signed = keyed.folder / "signed"
    assert shell(f"{decrypt} | gpg --sign --output {signed}")[0] == 0
    assert stranger("--decrypt", signed) == b"key of a backup"
    assert sorted(keyed.device.shown()) == ["ecdh", "ecdh", "sign"]
    assert keyed.device.asked_passphrase() == 1

    keyed.device.unplug()
    assert f"none is at {keyed.device.path}: plug it in and unlock it" in shell(decrypt)[1]
    assert FINGERPRINT in shell("gpg --list-secret-keys")[1]
    keyed.device.set()
    keyed.device.plug()
    assert shell(decrypt)[1].endswith("key of a backup")
    assert keyed.device.asked_passphrase() == 1


def test_refused_signature_is_reported(keyed: Site, shell: Shell) -> None:
    file = keyed.folder / "file"
    file.write_text("text")
    for settings, said in (
        ({"typed": ["mistyped"]}, ANOTHER),
        ({"mnemonic": " ".join(["legal"] * 12)}, ANOTHER),
        ({"initialized": False}, "has no seed"),
        ({"passphrase_protection": False}, "does not ask for a passphrase"),
        ({"answers": ["confirm", "cancel"]}, "cancelled on the device while signing"),
    ):
        keyed.device.set(**settings)
        status, told = shell(f"gpg --batch --detach-sign {file}")
        assert status == 2
        assert said in told
        assert "Traceback" not in told
        assert not file.with_name("file.sig").exists()
    assert shell(f"gpg --batch --detach-sign {file}")[0] == 0


def test_interrupt_clears_the_screen_of_the_device(keyed: Site) -> None:
    keyed.device.set(answers=["confirm", "hang"])
    sign = [keyed.checkout.home / "bcm", "gpg", "run", "gpg", "--batch", "--clearsign"]
    environment = keyed.checkout.environment
    with subprocess.Popen(sign, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        assert waiting.stdin
        waiting.stdin.write(b"text")
        waiting.stdin.close()
        until(lambda: keyed.device.shown() == ["sign"], "a question")
        waiting.terminate()
        assert waiting.wait(PATIENCE) == 128 + signal.SIGTERM
    assert "BEGIN PGP SIGNATURE" in keyed.bcm("gpg", "run", "gpg", "--batch", "--clearsign", stdin="text")
    assert not list((keyed.folder / "run").glob("bcm-*"))


def test_running_agent_of_gpg_is_replaced(keyed: Site) -> None:
    """That of gpg itself, which knows no key."""
    words = ["gpg-agent", "--homedir", str(keyed.home), "--daemon"]
    subprocess.run(words, env=keyed.checkout.environment, check=True, stdout=subprocess.DEVNULL)
    assert "BEGIN PGP SIGNATURE" in keyed.bcm("gpg", "run", "gpg", "--batch", "--clearsign", stdin="text")


class Typed(argparse.Namespace):
    """What was typed for a data center that has nothing yet."""

    def __init__(self, folder: Path, *arguments: str, **more: Any) -> None:
        there = argparse.Namespace(name="local", chain="regtest", secrets=folder)
        super().__init__(datacenter=there, arguments=list(arguments), yes=False, **more)


def test_missing_key_is_reported(tmp_path: Path) -> None:
    for verb in (device_keys.gpg_export, device_keys.gpg_run, device_keys.password):
        with pytest.raises(BcmError, match='local has no OpenPGP key yet: type `bcm gpg init "NAME <MAIL>"`'):
            verb(Typed(tmp_path, "ls", words=["true"]))


def test_invalid_user_id_is_refused(tmp_path: Path) -> None:
    for arguments, said in (
        ([], "Which machine"),
        (["--public-key"], "Which machine"),
        (["-l", "a b", "box"], '"a b" is not a user name'),
        (["-o", "Nonsense=1", "box"], "ssh does not understand that: "),
        (["-Q", "key"], "ssh does not understand that: it logs in nowhere"),
    ):
        with pytest.raises(UsageError, match=said):
            device_keys.ssh(Typed(tmp_path, *arguments))
    for user_id in ("Bob", "Bob <bob>", "<bob@dc1.example>", f"{'B' * 50} <bob@dc1.example>"):
        with pytest.raises(UsageError, match='is not a user ID: write "NAME <MAIL>", of at most 63 bytes'):
            device_keys.gpg_init(Typed(tmp_path, user_id=user_id))
    with pytest.raises(UsageError, match="Which program"):
        device_keys.gpg_run(Typed(tmp_path, words=[]))
    with pytest.raises(UsageError, match="no-such-program cannot be started: No such file"):
        device_keys._run_program(["no-such-program"], {})


def test_passphrase_in_the_environment_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREZOR_PASSPHRASE", PASSPHRASE)
    gpg = (device_keys.gpg_init, device_keys.gpg_export, device_keys.gpg_run)
    for verb in (*gpg, device_keys.password, device_keys.ssh):
        with pytest.raises(BcmError, match="^TREZOR_PASSPHRASE is set, and every program") as caught:
            verb(Typed(tmp_path, "root@box", words=["true"], user_id=USER_ID))
        assert PASSPHRASE not in str(caught.value)


# --- passwords -------------------------------------------------------------------------------------------------------


def test_pass_decrypts_with_the_device(keyed: Site) -> None:
    store = keyed.secrets / "passwords"
    keyed.bcm("pass", "insert", "--multiline", "rpc/home", stdin="secret\n", PASSWORD_STORE_KEY="somebody else")
    assert (store / ".gpg-id").read_text() == f"{FINGERPRINT}\n"
    assert (store / "rpc/home.gpg").stat().st_mode & 0o777 == 0o600
    assert keyed.device.shown() == []
    # trap: without a terminal, pass has gpg tell the agent ttyname=not a tty
    assert keyed.bcm("pass", "show", "rpc/home") == "secret\n"
    assert keyed.device.shown() == ["ecdh"]
    # one agent, so one passphrase, for a command and what runs in it
    keyed.device.set()
    script = f"{keyed.checkout.home}/bcm pass show rpc/home; {keyed.checkout.home}/bcm pass show rpc/home"
    assert keyed.bcm("gpg", "run", "sh", "-c", script) == "secret\nsecret\n"
    assert keyed.device.asked_passphrase() == 1
    assert keyed.bcm("pass", "show", "nothing", status=1) == "Error: nothing is not in the password store.\n"


# --- passphrases -----------------------------------------------------------------------------------------------------

#: which libagent by itself would make another one of, or refuse
ODD = "100 %41 à "


def test_typed_passphrase_is_not_passed_on(keyed: Site, tmp_path: Path) -> None:
    """On a Model One, which has no keys: into pinentry, on the terminal of the command."""
    keyed.device.set(model="T1B1", version=[1, 14, 1])
    file = tmp_path / "file"
    file.write_text("text")
    dump = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ"
    script = f"gpg --detach-sign {file}; {dump} >{tmp_path}/dump 2>/dev/null; true"
    terminal: Terminal = keyed.checkout.terminal("gpg", "run", "sh", "-c", script)
    terminal.reads("Passphrase of")
    terminal.reads("____")
    terminal.types(f"{PASSPHRASE}\r")
    terminal.reads('confirm: "sign"')
    assert terminal.ends() == 0, terminal.output
    assert file.with_suffix(".sig").exists() or file.with_name("file.sig").exists()
    assert PASSPHRASE.encode() not in (tmp_path / "dump").read_bytes()
    assert b"bcm_cli.agent" in (tmp_path / "dump").read_bytes()
    found = [path for path in keyed.folder.rglob("*") if path.is_file() and PASSPHRASE.encode() in path.read_bytes()]
    assert {path.name for path in found} <= {"test_device_keys.py", "settings.json"}


def test_passphrase_is_taken_as_it_was_typed(site: Site, tmp_path: Path) -> None:
    site.device.set(model="T1B1", version=[1, 14, 1])
    pinentry = tmp_path / "pinentry"
    typed = "100 %2541 à "
    pinentry.write_text(
        f'#!/bin/sh\necho OK\nwhile read -r line; do [ "$line" != GETPIN ] || echo "D {typed}"; echo OK; done\n'
    )
    pinentry.chmod(0o755)
    path = f"{tmp_path}:{site.checkout.environment['PATH']}"
    line = site.bcm("ssh", "--public-key", "odd@box", PATH=path)
    node = doubles.Node.master(doubles.CURVES["ed25519"], doubles.seed(" ".join(["all"] * 12), ODD))
    named = doubles.m.IdentityType(proto="ssh", user="odd", host="local-regtest.bcm", index=0)
    wanted = node.at(doubles.path_of(named, 13)).public_key[1:]
    assert base64.b64decode(line.split()[1])[-32:] == wanted


def test_passphrase_without_terminal_and_screen_is_refused(site: Site) -> None:
    """Neither terminal nor screen."""
    site.device.set(model="T1B1", version=[1, 14, 1])
    told = site.bcm("ssh", "--public-key", "nobody@box", status=1, DISPLAY="")
    assert 'Passphrase of Trezor "double": ' in told
    assert "GPG_TTY" in told


# --- SSH -------------------------------------------------------------------------------------------------------------


class Machine:
    """sshd on this machine, for whoever runs the tests, and a person's ssh that knows it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.authorized = folder / "authorized_keys"
        self.authorized.write_text("")
        for kind in ("ed25519", "rsa"):
            words = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", folder / kind]
            subprocess.run(words, check=True)
        self.port = free_port()
        known = " ".join((folder / "ed25519.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {known}\n")
        (folder / "config").write_text(f"UserKnownHostsFile {folder}/known_hosts\nPort {self.port}\n")
        program = folder / "bin/ssh"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {folder}/config "$@"\n')
        program.chmod(0o755)
        self.path = f"{program.parent}:{environment['PATH']}"
        self.user = f"{getpass.getuser()}@127.0.0.1"
        self._sshd: subprocess.Popen[bytes] | None = None

    def start(self, key: str) -> None:
        self.stop()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        settings = {
            "ListenAddress": "127.0.0.1",
            "AuthorizedKeysFile": self.authorized,
            "HostKey": self.folder / key,
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "PidFile": "none",
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        command = [str(setup.which("sshd")), "-D", "-e", "-f", "/dev/null", "-p", str(self.port), *options]
        self._sshd = subprocess.Popen(command, stderr=subprocess.DEVNULL)

        def listens() -> bool:
            with socket.socket() as caller:
                return caller.connect_ex(("127.0.0.1", self.port)) == 0

        until(listens, "the start of sshd")

    def stop(self) -> None:
        if self._sshd is not None:
            self._sshd.terminate()
            self._sshd.wait()
            self._sshd = None


@pytest.fixture(scope="module")
def machine(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("ssh"), site.checkout.environment)
    site.device.set()
    told = site.bcm("ssh", made.user, "true", PATH=made.path, status=1)
    assert f"type `bcm ssh --public-key {getpass.getuser()}@HOST`" in told
    line = site.bcm("ssh", "--public-key", made.user, PATH=made.path)
    assert site.device.shown() == []
    made.authorized.write_text(line)
    made.start("ed25519")
    yield made
    made.stop()


def test_ssh_logs_in_with_the_device(site: Site, machine: Machine) -> None:
    line = machine.authorized.read_text()
    assert line.split()[::2] == ["ssh-ed25519", f"<ssh://{getpass.getuser()}@local-regtest.bcm|ed25519>"]
    words = ("ssh", machine.user, "echo $SSH_CONNECTION; cat; exit 7")
    done = site.checkout.bcm(*words, stdin=b"x" * 100_000, PATH=machine.path)
    assert done.returncode == 7, done.stderr
    assert done.stdout == f"{done.stdout.splitlines()[0]}\n{'x' * 100_000}"
    assert site.device.shown() == ["sign"]
    site.device.unplug()
    try:
        assert site.bcm("ssh", "--public-key", machine.user, PATH=machine.path) == line
    finally:
        site.device.plug()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"typed": ["mistyped"]}, ANOTHER),
        (
            {"answers": ["confirm", "cancel"]},
            'cancelled on the device while signing "log in": run it again and confirm',
        ),
    ],
)
def test_refused_login_is_reported(site: Site, machine: Machine, settings: dict[str, Any], said: str) -> None:
    site.device.set(**settings)
    told = site.bcm("ssh", machine.user, "true", PATH=machine.path, status=255)
    assert said in told
    assert "Permission denied (publickey" in told


def test_host_with_a_key_too_long_to_sign_is_refused(site: Site, machine: Machine) -> None:
    machine.start("rsa")
    try:
        told = site.bcm("ssh", machine.user, "true", PATH=machine.path, status=255)
    finally:
        machine.start("ed25519")
    assert "no matching host key type found. Their offer: rsa" in told
    assert site.device.shown() == []


class Lxd(BaseHTTPRequestHandler):
    """As much of LXD's API as says who it is, and that it has nothing yet."""

    def do_GET(self) -> None:
        environment = {"server": "lxd", "server_version": "5.0", "server_name": "far-away"}
        answers: dict[str, Any] = {
            "/1.0": {"environment": environment, "auth": "trusted", "api_extensions": [], "config": {}},
            "/1.0/storage-pools": [],
        }
        metadata = answers.get(self.path.split("?")[0])
        sent = json.dumps(
            {"type": "error", "error": "not found", "error_code": 404}
            if metadata is None
            else {"type": "sync", "status_code": 200, "metadata": metadata}
        ).encode()
        self.send_response(404 if metadata is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_words: object) -> None:
        pass


def test_endpoint_is_reached_with_the_key_of_the_device(site: Site, machine: Machine) -> None:
    path = machine.folder / "lxd.socket"
    url = f"ssh://{machine.user}:{machine.port}{path}"
    settings = site.checkout.settings()
    before = settings.read_text()
    environment = {"PATH": machine.path, "LXD_DIR": ""}
    with ThreadingUnixStreamServer(str(path), Lxd) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            site.bcm("config", "set", f"endpoint={url}", "ssh_identity=trezor")
            assert "far-away" in site.bcm("info", **environment)
            assert site.device.shown() == ["sign"]
            # the connection is kept, so there is nothing to confirm
            assert "far-away" in site.bcm("info", **environment)
            assert site.device.shown() == ["sign"]
            site.bcm("config", "set", "ssh_identity=yubikey")
            assert 'bcm_ssh_identity is "yubikey": set it to trezor' in site.bcm("image", "list", status=1)
        finally:
            settings.write_text(before)
            for control in (site.folder / "run").glob("bcm-*/*.ctl"):
                subprocess.run(["ssh", "-S", control, "-O", "exit", "host"], capture_output=True, check=False)
                shutil.rmtree(control.parent)
            server.shutdown()


# --- without bcm -----------------------------------------------------------------------------------------------------


def test_stock_tools_find_the_same_keys(
    keyed: Site, machine: Machine, stranger: Callable[..., bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """trezor-agent and trezor-gpg with the device alone: what a person has who lost everything else."""
    home = tmp_path_factory.mktemp("stock") / "gnupg"
    programs = f"{device_keys.VENV}/bin:{keyed.checkout.environment['PATH']}"
    environment = {**keyed.checkout.environment, "PATH": programs, "TREZOR_PASSPHRASE": PASSPHRASE}

    def run(*words: str | Path, stdin: bytes = b"") -> bytes:
        done = subprocess.run(words, env=environment, input=stdin, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    who = f"ssh://{getpass.getuser()}@local-regtest.bcm"
    assert run("trezor-agent", "-e", "ed25519", who).decode() == machine.authorized.read_text()
    run("trezor-gpg", "init", USER_ID, "-e", "ed25519", "--homedir", home)
    try:
        exported = run("gpg", "--homedir", home, "--armor", "--export", FINGERPRINT)
        assert exported.decode() == keyed.bcm("gpg", "export")
        stranger("--import", stdin=exported)
        secret = stranger("--encrypt", "--recipient", FINGERPRINT, stdin=b"saved")
        assert run("gpg", "--homedir", home, "--batch", "--decrypt", stdin=secret) == b"saved"
    finally:
        run("gpgconf", "--homedir", home, "--kill", "gpg-agent")
