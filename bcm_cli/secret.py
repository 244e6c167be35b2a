# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm secret`: list, show, rotate and edit the secrets of a data center, and rekey the vault."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.disk import disk_errors, write_files
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import CHAINS, unknown
from ansible_collections.bcm.core.plugins.module_utils._base.vault import HEADER, Vault, is_encrypted, vault_id
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._datacenter import secrets_file
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program
from ansible_collections.bcm.core.plugins.module_utils._tor.services_file import ServicesFile as Onions

from . import setup
from .config import write
from .connect import connect
from .datacenter import DataCenter, UsageError
from .output import answer
from .stacks import catalogue
from .status import deployed
from .trezor_session import session, vault

_DEADLINE = 120.0
_EDITORS = ("editor", "nano", "vi")


def names(args: argparse.Namespace) -> int:
    """List the names of secrets, and the stacks that know them, without their values."""
    path = _path(args.datacenter)
    values = secrets_file.read_secrets(path, vault(args.datacenter)) if path.exists() else {}
    rows: list[dict[str, Any]] = [{"secret": name, "stacks": secrets_file.holders(name)} for name in sorted(values)]
    return answer({"secrets": rows} if args.json else rows, args.json)


def show(args: argparse.Namespace) -> int:
    """Print the value of a secret, and nothing else."""
    path = _present(args.datacenter)
    values = secrets_file.read_secrets(path, vault(args.datacenter))
    _known([args.name], values)
    print(values[args.name])
    return 0


def rotate(args: argparse.Namespace) -> int:
    """Replace the values of secrets."""
    path = _present(args.datacenter)
    if lasting := [name for name in args.names if secrets_file.is_lasting(name)]:
        raise BcmError(
            ", ".join(lasting),
            "cannot be replaced, because a wallet or a copy of a backup is made of it or encrypted with it",
            "nothing was changed, leave it out",
            code="unsupported",
        )
    makers = _makers(args.datacenter, args.names)
    own = [name for name in args.names if name not in makers]
    if own:
        with secrets_file.change_secrets(path, vault(args.datacenter)) as values:
            _known(own, values)
            values.update({name: secrets_file.new_secret(name) for name in own})
    for name, program in makers.items():
        _revoke(args.datacenter, name, program)
    _print_stacks(args.names)
    return 0


def _makers(datacenter: DataCenter, wanted: Iterable[str]) -> dict[str, Path]:
    """Return those of the names that are credentials which a stack makes, with the program that revokes them."""
    found = {}
    for name in wanted:
        stack, *rest = name.split("/")
        if len(rest) == 2 and stack in (known := catalogue(datacenter)) and known[stack].makes_credentials:
            found[name] = known[stack].role_path / "scripts/revoke.py"
    return found


def _revoke(datacenter: DataCenter, name: str, program: Path) -> None:
    """Revoke a credential; the next run makes another one. Raises BcmError."""
    stack, _service, consumer = name.split("/")
    with connect(datacenter) as client:
        if stack not in deployed(client):
            raise BcmError(stack, "is not deployed", f"`bcm stack start {stack}`", code="not_ready")
        request = {"consumers": [consumer]}
        revoked = ask_program(client, stack, program, request, deadline=_DEADLINE, exclusive=True)["revoked"]
    if not revoked:
        raise UsageError(f"{consumer} has no credential of {stack}", code="not_found")


def edit(args: argparse.Namespace) -> int:
    """Edit all secrets in an editor, without a lock meanwhile."""
    path = _present(args.datacenter)
    own = vault(args.datacenter)
    before = secrets_file.read_secrets(path, own)
    with setup.private_folder() as folder:
        after = _edited(before, folder / path.name)
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    if not changed:
        setup.step("Nothing was changed")
        return 0
    with secrets_file.change_secrets(path, own) as values:
        other = [name for name in changed if values.get(name) != before.get(name)]
        if other:
            raise BcmError(
                f"Another run changed {', '.join(other)}",
                "meanwhile",
                "nothing was written, edit them again",
                code="changed_meanwhile",
                about=", ".join(other),
            )
        for name in changed:
            values.pop(name, None)
        values.update({name: after[name] for name in changed if name in after})
    _print_stacks(changed)
    return 0


def rekey(args: argparse.Namespace) -> int:
    """Change the password of the vault, and encrypt everything again; completes an interrupted change."""
    datacenter: DataCenter = args.datacenter
    if datacenter.ca_provider != "trezor":
        raise UsageError(
            f"Data center {datacenter.name}", "has no vault, because bcm_ca_provider is not trezor", code="unsupported"
        )
    former = datacenter.vault_generation
    setting = "bcm_vault_generation"
    write(datacenter.group_vars, {setting: str(former)})  # check that it can be written before anything is encrypted
    with session(datacenter) as environment:
        old, new = (vault(datacenter, environment, generation) for generation in (former, former + 1))
    with disk_errors(f"Files in {datacenter.inventory}"), contextlib.ExitStack() as stack:
        for chain in CHAINS:  # also where there is no file yet, since a run may be about to write the first
            stack.enter_context(secrets_file.secrets_file(datacenter.secrets / f"{chain}.json").locked())
            stack.enter_context(AuthorityFiles(datacenter.secrets, chain).locked())
            stack.enter_context(Onions(datacenter.secrets, chain).locked())
        files = [(path, path.read_text(encoding="utf-8")) for path in sorted(datacenter.secrets.glob("*.json"))]
        written: list[tuple[Path, str | bytes, int]] = [
            (path, new.seal(_decrypt(path, text, new, old)), 0o600) for path, text in files if is_encrypted(text)
        ]
        for path in datacenter.variable_files():
            text = path.read_bytes().decode("utf-8", "surrogateescape")
            sealed = _encrypt_values_again(text, path, datacenter.name, new, old).encode("utf-8", "surrogateescape")
            if sealed != path.read_bytes():
                written.append((path.resolve(), sealed, path.stat().st_mode & 0o777))
        write_files(*written)
        write(datacenter.group_vars, {setting: str(former + 1)})
    again = ", ".join(path.name for path, *_rest in written)
    setup.step(f"Encrypted again: {again or 'nothing, as there was nothing yet'}")
    setup.step(
        f"{datacenter.group_vars} says {setting}: {former + 1} now; older copies still open with the old password"
    )
    return 0


#: an encrypted value in YAML, as `ansible-vault encrypt_string` writes it
_VALUE = re.compile(r"^(?P<indent>[ \t]+)\$ANSIBLE_VAULT;[^\n]*\n(?:(?P=indent)[0-9a-f]+[ \t]*(?:\n|\Z))+", re.M)


def _encrypt_values_again(text: str, path: Path, name: str, new: Vault, old: Vault) -> str:
    """Return the text of a variable file, with what it has of a vault encrypted again. Raises BcmError."""

    def again(encrypted: str) -> str:
        if (owner := vault_id(encrypted)) not in (name, "default"):
            return encrypted
        try:
            return new.seal(_decrypt(path, encrypted, new, old))
        except BcmError:
            if owner == name:
                raise
            return encrypted  # of format 1.1, which does not say whose it is

    def value_again(found: re.Match[str]) -> str:
        encrypted = "".join(f"{line.strip()}\n" for line in found[0].splitlines())
        if (sealed := again(encrypted)) == encrypted:
            return found[0]
        lines = "".join(f"{found['indent']}{line}\n" for line in sealed.splitlines())
        return lines if found[0].endswith("\n") else lines.removesuffix("\n")

    if is_encrypted(text):
        return again(text)
    if f"{HEADER};1.2;AES256;{name}" in _VALUE.sub("", text):
        raise BcmError(
            path,
            "has an encrypted value that is not written as a block",
            "write it as `ansible-vault encrypt_string` does; nothing was changed",
            code="unsupported",
        )
    return _VALUE.sub(value_again, text)


def _decrypt(path: Path, text: str, new: Vault, old: Vault) -> str:
    try:
        return new.open(text, path)  # left so by an interrupted run
    except BcmError:
        return old.open(text, path)


def _path(datacenter: DataCenter) -> Path:
    return datacenter.secrets / f"{datacenter.chain}.json"


def _present(datacenter: DataCenter) -> Path:
    path = _path(datacenter)
    if not path.exists():
        name = f"{datacenter.name} ({datacenter.chain})"
        raise BcmError(
            f"Data center {name}", "has no secrets yet", "`bcm stack start STACK` creates them", code="not_ready"
        )
    return path


def _known(wanted: Iterable[str], values: Mapping[str, str]) -> None:
    for name in wanted:
        if name not in values:
            raise UsageError.of(unknown("secret", name, sorted(values)))


def _print_stacks(changed: Iterable[str]) -> None:
    stacks = dict.fromkeys(holder for name in changed for holder in secrets_file.holders(name))
    setup.step(f"Changed: {', '.join(changed)}. `bcm stack start {' '.join(stacks)}` makes the stacks use it")


def _edited(before: Mapping[str, str], file: Path) -> dict[str, str]:
    file.touch(mode=0o600)
    file.write_text(secrets_file.format_secrets(before), encoding="utf-8")
    while True:
        _editor(file)
        try:
            return secrets_file.parse_secrets(file.read_text(encoding="utf-8"))
        except (ValueError, BcmError, OSError) as error:
            fault = f"This cannot be saved: {error}"
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise BcmError(f"{fault}:", "nothing was changed, edit it again", code="invalid_value")
        print(f"bcm: {fault}. Edit it again? [Y/n] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().lower() not in ("\n", "y\n", "yes\n"):
            raise BcmError("Nothing was changed", code="cancelled")


def _editor(file: Path) -> None:
    """Open a file in the editor; Ctrl-C is left to the editor meanwhile."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    command = shlex.split(editor) if editor else [next(filter(setup.which, _EDITORS), "vi")]
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = subprocess.run(
            [*command, str(file)], preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), check=False
        ).returncode
    except OSError as error:
        raise BcmError(
            f"The editor {command[0]}",
            f"cannot be started: {error.strerror}",
            "set EDITOR to another",
            code="missing_program",
        ) from error
    finally:
        signal.signal(signal.SIGINT, former)
    if status:
        raise BcmError(f"The editor {command[0]}", f"ended with {status}: nothing was changed", code="command_failed")
