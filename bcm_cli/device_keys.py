# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm ssh`, `bcm gpg` and `bcm pass`: SSH, OpenPGP and passwords with keys on the device."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.bcm.core.plugins.module_utils._base.disk import make_private_directory, write_files
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.locks import hold_lock, share_lock
from ansible_collections.bcm.core.plugins.module_utils._base.names import datacenter_names

from . import setup
from .datacenter import DataCenter, UsageError

VENV = setup.ROOT / ".venv-agent"
# The device signs the host's key along with the login. The Model One takes 512 bytes, in which one of RSA has no room,
# and libagent reads no others.
_HOST_KEYS = "HostKeyAlgorithms=ssh-ed25519"
# of a Model One, for user and host alike
_LONGEST = 63
_USER_ID = re.compile(r"[^<>@\s][^<>@\n]* <[^<>@\s]+@[^<>@\s]+>")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
_END_SECONDS = 20
_GPG_CONF = """\
# Keys are on the device, and only bcm's agent asks it: gpg's own knows nothing of them.
no-autostart
personal-digest-preferences SHA512
default-key {}
"""


def _ready(packages: tuple[setup.Package, ...], yes: bool) -> None:
    """Install what the verbs below need on this machine."""
    if "TREZOR_PASSPHRASE" in os.environ:
        raise BcmError(
            "TREZOR_PASSPHRASE",
            "is set, and every program that you start can read it",
            "type `unset TREZOR_PASSPHRASE`; bcm has pinentry, or the device, ask for the passphrase",
            code="not_allowed",
        )
    setup.packages(packages, yes)
    files = (setup.ROOT / f"requirements-{name}.txt" for name in ("agent", "build"))
    setup.virtual_environment(VENV, next(files), yes, next(files))


def _start(datacenter: DataCenter, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    device = datacenter.ca_device
    return subprocess.Popen(
        # -P: files in the current directory must not be imported as modules
        [str(VENV / "bin/python"), "-P", "-m", "bcm_cli.agent", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            **({"TREZOR_PATH": device} if device else {}),
            "PYTHONPATH": f"{setup.ROOT}{os.pathsep}{setup.ROOT / 'collections'}",
            **environment,
        },
    )


@contextlib.contextmanager
def _agent(datacenter: DataCenter, *words: str, **environment: str) -> Iterator[dict[str, Any]]:
    """Run an agent as a context; yields its first answer."""
    with _start(datacenter, *words, **environment) as child:
        try:
            if child.stdout is None or child.stdin is None:
                raise BcmError("the agent", "has no pipes", code="internal_error")
            line = child.stdout.readline()
            if not line:
                raise BcmError("The agent", "ended without an answer", code="internal_error")
            answer: dict[str, Any] = json.loads(line)
            if "fault" in answer:
                raise BcmError.received(answer["fault"])
            yield answer
        finally:
            try:
                child.communicate(timeout=_END_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


# -- ssh --------------------------------------------------------------------------------------------------------------


def ssh(args: argparse.Namespace) -> int:
    """Run ssh with the key on the device, which belongs to this user on all hosts of the data center."""
    datacenter, words = args.datacenter, args.arguments
    shown = words[:1] == ["--public-key"]
    if len(words) <= shown:
        raise UsageError("Which machine?", remedy="Type `bcm ssh [--public-key] [USER@]HOST [COMMAND…]`")
    _ready(setup.SSH_AGENT_PACKAGES, args.yes)
    user = _user(words[shown:])
    if shown:
        print(_ssh_key(datacenter, user, new=True))
        return 0
    with setup.private_folder() as folder:
        agent = f"{folder}/agent"
        key = Path(folder) / "key.pub"
        key.write_text(f"{_ssh_key(datacenter, user)}\n", encoding="utf-8")
        options = [_HOST_KEYS, f"IdentityAgent={agent}", f"IdentityFile={key}", "IdentitiesOnly=yes"]
        with _agent(datacenter, "ssh-agent", _ssh_identity(datacenter, user), key.read_text("utf-8"), agent):
            return subprocess.call(["ssh", *(word for option in options for word in ("-o", option)), *words])


def for_endpoint(datacenter: DataCenter, yes: bool = False, environment: Mapping[str, str] | None = None) -> None:
    """Start an agent for an ssh:// endpoint, if the data center is configured so, until this process ends.

    ``environment`` is what `device.session` gave, if there is one: the passphrase is asked for once then.
    """
    for_target(datacenter, datacenter.endpoint, yes, environment)


def for_target(
    datacenter: DataCenter, url: str, yes: bool = False, environment: Mapping[str, str] | None = None
) -> None:
    """Start that agent for a machine, by its ssh:// URL, which may be about to become an endpoint."""
    wanted = _has_identity(datacenter)
    if not wanted or not url.startswith("ssh://") or "BCM_SSH_AGENT" in os.environ:
        return
    parts = urlsplit(url)
    _ready(setup.SSH_AGENT_PACKAGES, yes)
    user = parts.username or _user([parts.hostname or ""])
    line = _ssh_key(datacenter, user)
    stack = contextlib.ExitStack()
    folder = stack.enter_context(setup.private_folder())
    agent = f"{folder}/agent"
    identity = _ssh_identity(datacenter, user)
    stack.enter_context(_agent(datacenter, "ssh-agent", identity, line, agent, **(environment or {})))
    atexit.register(stack.close)
    os.environ |= {"BCM_SSH_AGENT": agent, "SSH_AUTH_SOCK": agent}


def public_key(datacenter: DataCenter, user: str) -> str | None:
    """Return the line for authorized_keys of a user, if the data center is configured so."""
    return _ssh_key(datacenter, user) if _has_identity(datacenter) else None


def _has_identity(datacenter: DataCenter) -> bool:
    """Whether the key on the device logs in to machines. Raises BcmError."""
    wanted = datacenter.variable("bcm_ssh_identity")
    if wanted not in (None, "", "trezor"):
        raise BcmError("bcm_ssh_identity", f'is "{wanted}"', "set it to trezor, or leave it out", code="invalid_value")
    return bool(wanted)


def _user(words: list[str]) -> str:
    """Return the user that ssh would log in as: the one typed, or the one of its configuration."""
    done = subprocess.run(["ssh", "-G", *words], capture_output=True, text=True, check=False)
    found = re.search(r"^user (.*)$", done.stdout, re.M)
    if done.returncode or not found:
        refusal = done.stderr.strip() or "it logs in nowhere"
        raise UsageError("ssh", f"does not understand that: {refusal.splitlines()[0]}")
    user = found[1]
    if not _USER.fullmatch(user) or len(user) > _LONGEST:
        raise UsageError(
            f'"{user}"', "is not a user name", f"use at most {_LONGEST} letters, digits, dots and hyphens"
        )
    return user


def _ssh_identity(datacenter: DataCenter, user: str) -> str:
    return f"{user}@{datacenter_names(datacenter.name, datacenter.chain).domain}"


def _ssh_key(datacenter: DataCenter, user: str, new: bool = False) -> str:
    """Return the line for authorized_keys. It is stored, since a wrong passphrase opens a wallet with another key."""
    identity = _ssh_identity(datacenter, user)
    path = _secrets(datacenter) / "ssh" / f"{identity}.pub"
    if path.exists():
        return path.read_text(encoding="utf-8").strip()
    if not new:
        raise BcmError(
            f"The key of {identity}",
            "is not known yet",
            f"type `bcm ssh --public-key {user}@HOST`, and give the line that it prints to that machine, as one of "
            "~/.ssh/authorized_keys",
            code="not_ready",
        )
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _agent(datacenter, "ssh-key", identity) as answer:
        write_files((path, f"{answer['key']}\n", 0o600))
    return str(answer["key"])


# -- OpenPGP ----------------------------------------------------------------------------------------------------------


def gpg_init(args: argparse.Namespace) -> int:
    """Create the key of the data center and GnuPG's home, atomically."""
    _ready(setup.GPG_PACKAGES, args.yes)
    datacenter, user_id = args.datacenter, args.user_id
    if not _USER_ID.fullmatch(user_id) or len(user_id.encode()) > _LONGEST:
        raise UsageError(f'"{user_id}"', "is not a user ID", f'write "NAME <MAIL>", of at most {_LONGEST} bytes')
    home = _home(datacenter)
    with hold_lock(home.with_name(".gnupg.lock")):
        if home.exists():
            there = _gpg(home, "--with-colons", "--list-keys", _fingerprint(home))
            (name,) = (_unescaped(line.split(":")[9]) for line in there.splitlines() if line.startswith("uid:"))
            if name != user_id:
                raise BcmError(
                    f"Data center {datacenter.name}", f'has the key of "{name}" already, in {home}', code="conflict"
                )
            setup.step(f"The key is there already, in {home}")
        else:
            with _agent(datacenter, "gpg-key", user_id) as made:
                _make_home(home, made)
    print(_fingerprint(home))
    return 0


def _make_home(home: Path, made: dict[str, Any]) -> None:
    new = home.with_name(".gnupg.new")
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed
    new.mkdir(mode=0o700)
    (new / "gpg.conf").write_text(_GPG_CONF.format(made["fingerprint"]), encoding="utf-8")
    _gpg(new, "--quiet", "--import", stdin=made["key"])
    _gpg(new, "--quiet", "--import-ownertrust", stdin=f"{made['fingerprint']}:6:\n")
    _gpg(new, "--quiet", "--check-trustdb")
    new.rename(home)


def gpg_export(args: argparse.Namespace) -> int:
    """Print the public key."""
    _ready(setup.GPG_PACKAGES, args.yes)
    home = _finished_home(args.datacenter)
    print(_gpg(home, "--armor", "--export", _fingerprint(home)), end="")
    return 0


def gpg_run(args: argparse.Namespace) -> int:
    """Run a program; gpg has the key in it and in its children."""
    if not args.words:
        raise UsageError(
            "Which program?", remedy="Type `bcm gpg run COMMAND…`, such as `bcm gpg run gpg --decrypt FILE`"
        )
    _ready(setup.GPG_PACKAGES, args.yes)
    home = _finished_home(args.datacenter)
    with _gpg_agent(args.datacenter, home):
        return _run_program(args.words, {**os.environ, "GNUPGHOME": str(home)})


def password(args: argparse.Namespace) -> int:
    """Run pass with the store of the data center."""
    _ready(setup.PASS_PACKAGES, args.yes)
    home = _finished_home(args.datacenter)
    store = home.with_name("passwords")
    # a person's own settings may name another key
    others = {key: value for key, value in os.environ.items() if not key.startswith("PASSWORD_STORE_")}
    environment = {**others, "GNUPGHOME": str(home), "PASSWORD_STORE_DIR": str(store), "PASSWORD_STORE_UMASK": "077"}
    if not (store / ".gpg-id").exists():
        subprocess.run(["pass", "init", _fingerprint(home)], env=environment, stdout=subprocess.DEVNULL, check=True)
        setup.step(f"Passwords of data center {args.datacenter.name} are kept in {store}")
    with _gpg_agent(args.datacenter, home):
        return _run_program(["pass", *args.arguments], environment)


def _run_program(words: list[str], environment: dict[str, str]) -> int:
    try:
        return subprocess.call(words, env=environment)
    except OSError as error:
        raise UsageError(words[0], f"cannot be started: {error.strerror}", code="missing_program") from error


@contextlib.contextmanager
def _gpg_agent(datacenter: DataCenter, home: Path) -> Iterator[None]:
    """Run an agent for gpg in a home. The agent of the first of concurrent commands serves all of them."""
    with share_lock(home / "bcm.lock") as wait_for_others, contextlib.ExitStack() as stack:
        with hold_lock(home / "bcm.start.lock"):
            if not _answers(home):
                stack.enter_context(_agent(datacenter, "gpg-agent", _fingerprint(home), GNUPGHOME=str(home)))
                stack.callback(wait_for_others)
        yield


def _answers(home: Path) -> bool:
    """Return whether our agent listens there; end another one that gpg or stock trezor-gpg left running."""
    listed = ["gpgconf", "--list-dirs", "agent-socket"]
    path = subprocess.run(listed, env={**os.environ, "GNUPGHOME": str(home)}, capture_output=True, check=True).stdout
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(_END_SECONDS)
        caller.connect(path.strip())
        with caller.makefile("rwb") as lines:
            lines.readline()
            lines.write(b"AGENT_ID\n")
            lines.flush()
            if lines.readline() == b"D bcm\n":
                return True
            lines.write(b"KILLAGENT\n")
            lines.flush()
            while lines.readline():
                pass
    return False


def _gpg(home: Path, *words: str, stdin: str = "") -> str:
    command = ["gpg", "--homedir", str(home), "--batch", "--no-tty", *words]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BcmError(f"{' '.join(command)}:", done.stderr.strip(), code="command_failed")
    return done.stdout


def _fingerprint(home: Path) -> str:
    found = re.search(r"^default-key (\w+)$", (home / "gpg.conf").read_text(encoding="utf-8"), re.M)
    if not found:
        raise BcmError(
            f"{home}/gpg.conf", "names no default-key", f"remove {home} and type `bcm gpg init` again", code="damaged"
        )
    return found[1]


def _finished_home(datacenter: DataCenter) -> Path:
    home = _home(datacenter)
    if not home.exists():
        raise BcmError(
            f"Data center {datacenter.name}",
            "has no OpenPGP key yet",
            'type `bcm gpg init "NAME <MAIL>"`',
            code="not_ready",
        )
    return home


def _unescaped(text: str) -> str:
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text)


def _home(datacenter: DataCenter) -> Path:
    return _secrets(datacenter) / "gnupg"


def _secrets(datacenter: DataCenter) -> Path:
    make_private_directory(datacenter.secrets)
    return datacenter.secrets
