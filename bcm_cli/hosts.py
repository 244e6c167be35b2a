# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm host`: prepare a bare machine over SSH, or make one with multipass first."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.disk import write_files
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.read import read_json

from . import device_keys, setup
from .ansible_run import run_playbook
from .datacenter import UsageError
from .output import say

_PLAYBOOK = "bcm.core.prepare_host"
_TARGET = re.compile(
    r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]*@)?(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_SCAN_SECONDS = 10
#: who logs in to Ubuntu's images, and which of them
_USER, _IMAGE = "ubuntu", "24.04"
_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9-]*[A-Za-z0-9])?")


def prepare(args: argparse.Namespace) -> int:
    """Pin the machine's key, show what would change there, ask, and change it."""
    target = args.host
    check_target(target)
    told: dict[str, object] = {"host": target, "host_shared": args.shared}
    told |= {"host_daemon": args.daemon or "", "host_pool_device": args.device or ""}
    for text in args.extra_vars:
        name, equals, value = text.partition("=")
        if not (equals and name.startswith("host_")):
            raise UsageError(f"-e {text}", "is no variable of a host", "write host_NAME=VALUE; see docs/hosts.md")
        told[name] = _value(value)
    setup.packages(setup.SSH_PACKAGES, args.yes)
    pin_host_key(target, args.yes)
    device_keys.for_target(args.datacenter, f"ssh://{target}", args.yes)
    setup.step(f"This is what would change on {target}:")
    if status := _play(told, "--check", *["--diff"] * args.diff):
        return status
    if args.check:
        return 0
    setup.confirm(f"Change {target} like this?", args.yes, "Nothing was changed")
    if status := _play(told):
        return status
    _say_next(f"{target} is prepared", "ssh", f"endpoint=ssh://{target}")
    return 0


def launch(args: argparse.Namespace) -> int:
    """Make a virtual machine with multipass, and prepare it."""
    _check_name(args.name)
    setup.packages(setup.MULTIPASS_PACKAGES, args.yes)
    key = device_keys.public_key(args.datacenter, _USER) or _own_key()
    if args.name in _machines():
        raise BcmError(f"Machine {args.name}", "exists already", "choose another name", code="conflict")
    sizes = [word for size in ("cpus", "memory", "disk") for word in (f"--{size}", str(getattr(args, size)))]
    setup.step(f"Launch {args.name} …")
    # by its standard input, since a snap reads few files of others
    words = ["multipass", "launch", _IMAGE, "--name", args.name, *sizes, "--cloud-init", "-"]
    launched = _run(*words, stdin=cloud_init(key))
    if launched.returncode:
        said = launched.stderr.strip() or launched.stdout.strip()
        raise BcmError(f"Machine {args.name}", f"was not launched: {said}", code="command_failed")
    addresses = _machines().get(args.name, [])
    if not addresses:
        raise BcmError(f"Machine {args.name}", "was launched and has no address", "`multipass list`", code="not_ready")
    target = f"{_USER}@{addresses[0]}"
    # multipass has a way into the machine of its own, so there is nothing to compare by hand
    shown = _run("multipass", "exec", args.name, "--", "cat", "/etc/ssh/ssh_host_ed25519_key.pub")
    if not shown.stdout.startswith("ssh-ed25519 "):
        raise BcmError(f"Machine {args.name}", f"has no SSH host key: {shown.stderr.strip()}", code="not_ready")
    settings = _ssh_settings(target)
    files = _known_hosts(settings)
    _run("ssh-keygen", "-R", addresses[0], "-f", str(files[0]))  # of a former machine with this address
    _add_line(files[0], f"{addresses[0]} {' '.join(shown.stdout.split()[:2])}\n")
    device_keys.for_target(args.datacenter, f"ssh://{target}", args.yes)
    if status := _play({"host": target}):
        return status
    _say_next(f"{args.name} runs at {addresses[0]}", "multipass", f"multipass_name={args.name}")
    return 0


def stop(args: argparse.Namespace) -> int:
    """Stop a virtual machine; it keeps its disk."""
    return _change_machine(args, f"Stop {args.name}", "stop")


def delete(args: argparse.Namespace) -> int:
    """Delete a virtual machine with its disk."""
    setup.confirm(f"Delete {args.name} with all that is on it?", args.yes, "Nothing was deleted")
    return _change_machine(args, f"Delete {args.name}", "delete", "--purge")


def _change_machine(args: argparse.Namespace, what: str, *words: str) -> int:
    setup.packages(setup.MULTIPASS_PACKAGES, args.yes)
    if args.name not in (known := _machines()):
        raise UsageError.of(names.unknown("machine", args.name, known))
    setup.run_quietly(what, ["multipass", *words, args.name])
    return 0


def check_target(text: str) -> None:
    """Raise UsageError unless a text names a machine, as [USER@]ADDRESS[:PORT]."""
    if not _TARGET.fullmatch(text):
        raise UsageError(f'"{text}"', "names no machine", "write [USER@]ADDRESS[:PORT]")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f'"{name}"', "cannot be the name of a machine", "use letters, digits and hyphens")


def cloud_init(key: str) -> str:
    """Return the user data of a machine that `prepare` goes on with: a key that logs in, and Python."""
    packages = ["python3", "python3-apt", "sudo"]
    data = {"ssh_authorized_keys": [key], "package_update": True, "packages": packages}
    return f"#cloud-config\n{json.dumps(data, indent=2)}\n"  # which is YAML, too


def _own_key() -> str:
    """The first public key of this user. Raises BcmError if there is none."""
    for path in sorted((Path.home() / ".ssh").glob("id_*.pub")):
        return path.read_text(encoding="utf-8").strip()
    raise BcmError(
        "~/.ssh", "has no public key with which to log in", "make one with `ssh-keygen -t ed25519`", code="not_ready"
    )


def _machines() -> dict[str, list[str]]:
    """The addresses of all machines of multipass, by name. Raises BcmError."""
    done = _run("multipass", "list", "--format", "json")
    try:
        rows = read_json(done.stdout)["list"]
        return {str(row["name"]): [str(address) for address in row["ipv4"] if address] for row in rows}
    except (ValueError, TypeError, KeyError) as error:
        said = done.stderr.strip() or done.stdout.strip()
        raise BcmError("`multipass list`", f"lists no machines: {said}", code="command_failed") from error


def _say_next(done: str, like: str, setting: str) -> None:
    say()
    say(f"{done}; next:")
    say(f"  bcm datacenter create NAME --like {like}")
    say(f"  bcm -d NAME config set {setting}")
    say("  bcm -d NAME stack start STACK")


def _value(text: str) -> object:
    """The value of a variable: JSON, or else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _play(told: dict[str, object], *options: str) -> int:
    # without an inventory: the playbook adds the machine
    return run_playbook(_PLAYBOOK, ",", [*options, "-e", json.dumps(told)], {"ANSIBLE_LOCALHOST_WARNING": "0"})


def pin_host_key(target: str, yes: bool) -> None:
    """Have ssh know the key of a machine: at the first meeting, show its fingerprint and ask. Raises BcmError."""
    settings = _ssh_settings(target)
    host, port = settings["hostkeyalias"] or settings["hostname"], settings["port"]
    name = host if port == "22" or settings["hostkeyalias"] else f"[{host}]:{port}"
    files = _known_hosts(settings)
    if any(_run("ssh-keygen", "-F", name, "-f", str(file)).stdout for file in files if file.is_file()):
        return
    if settings["proxyjump"] or settings["proxycommand"]:
        raise BcmError(
            target,
            "is reached through another machine, and its key is not known yet",
            f"log in once by hand with `ssh {target}`",
            code="not_ready",
        )
    # ssh prefers the kinds of keys that it knows. The Trezor signs only with this one.
    scanned = _run("ssh-keyscan", "-T", str(_SCAN_SECONDS), "-p", port, "-t", "ed25519", settings["hostname"])
    found = [line.split(maxsplit=1)[1] for line in scanned.stdout.splitlines() if " ssh-ed25519 " in line]
    if not found:
        raise BcmError(
            target,
            f"shows no SSH host key of type ed25519 at port {port}",
            "check that it runs and that its sshd has such a key",
            code="unreachable",
        )
    line = f"{name} {found[0]}\n"
    fingerprint = _run("ssh-keygen", "-l", "-f", "-", stdin=line).stdout.split()[1]
    setup.step(f"The key of {target} is {fingerprint}: compare it with what `ssh-keygen -lf "
               "/etc/ssh/ssh_host_ed25519_key.pub` prints there")  # fmt: skip
    setup.confirm("Is it the same?", yes, f"The key of {target} was not accepted")
    _add_line(files[0], line)


def _known_hosts(settings: dict[str, str]) -> list[Path]:
    """The files of known hosts, the first of which ssh would write to."""
    words = f"{settings['userknownhostsfile']} {settings['globalknownhostsfile']}".split()
    return [Path(word).expanduser() for word in words]


def _add_line(file: Path, line: str) -> None:
    before = file.read_text(encoding="utf-8") if file.is_file() else ""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_files((file, before + "\n" * bool(before and not before.endswith("\n")) + line, 0o600))


def ssh_address(target: str) -> str:
    """Return the host that ssh connects to for [USER@]ADDRESS[:PORT]. Raises BcmError."""
    return _ssh_settings(target)["hostname"]


def _ssh_settings(target: str) -> dict[str, str]:
    """What ssh's configuration says of a machine, "" for what it does not say. Raises BcmError."""
    url = urlsplit(f"ssh://{target}")
    port = ["-p", str(url.port)] if url.port else []
    user = ["-l", url.username] if url.username else []
    done = _run("ssh", "-G", *port, *user, "--", str(url.hostname))
    if done.returncode:
        raise BcmError(target, f"is not understood by ssh: {done.stderr.strip()}", code="invalid_value")
    wanted = dict.fromkeys(
        ("hostname", "port", "hostkeyalias", "userknownhostsfile", "globalknownhostsfile", "proxyjump", "proxycommand"),
        "",
    )
    pairs = (line.partition(" ") for line in done.stdout.splitlines())
    return wanted | {key: value for key, _space, value in pairs if key in wanted and value != "none"}


def _run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, input=stdin, capture_output=True, text=True, check=False)
