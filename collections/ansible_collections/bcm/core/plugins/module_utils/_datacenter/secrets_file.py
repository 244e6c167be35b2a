# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets of a data center on a chain: a file beside the inventory that only its owner can read, or a vault."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .._base.errors import BcmError
from .._base.read import read_json, texts_of
from .._base.vault import PLAIN, Vault
from .._base.vaulted_file import VaultedFile, damaged
from .._tor.relay import new_identity, parse_identity
from . import backup_keys

# 256 bits
_BYTES = 32
# What a wallet, or a copy of a backup, is encrypted with or made of: another value would lock it.
_LASTING = ("wallet_password", "wallet_created", "recovery_words", "public_key", "wallet_name", "sealing_key")
#: the end of a name -> what of the secret everybody may know
_PUBLIC = {"sealing_key": backup_keys.recipient, "ssh_key": backup_keys.ssh_public_key}
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9_-]*)+")
_VALUE = re.compile(r"(?! )[ !#-&(-\[\]-~]{8,1000}(?<! )")


@dataclass(frozen=True)
class Secrets:
    """All secrets by name, and the names of the new ones."""

    values: dict[str, str]
    made: list[str]

    def of_stacks(self) -> dict[str, dict[str, str]]:
        """For each stack the secrets it may know."""
        result: dict[str, dict[str, str]] = {}
        for name, value in self.values.items():
            for holder in holders(name):
                result.setdefault(holder, {})[name] = value
        return result

    def public(self) -> dict[str, str]:
        """The public halves of those that are keys, by name."""
        ends = {name: name.rpartition("/")[2] for name in self.values}
        return {name: _PUBLIC[end](self.values[name]) for name, end in ends.items() if end in _PUBLIC}


def holders(name: str) -> list[str]:
    """Return the stacks that may know a secret: its owner, and the consumer of its service.

    No stack may know a ``sealing_key``.
    """
    stack, *rest = name.split("/")
    return [] if rest == ["sealing_key"] else [stack, *rest[1:]]


def is_lasting(name: str) -> bool:
    """Whether a secret cannot get a new value, because a wallet or a copy depends on it."""
    return name.rpartition("/")[2] in _LASTING


def new_secret(name: str) -> str:
    """Return a new random value; for a name that ends with ``/relay_identity``, the keys of a relay."""
    return new_identity().text if name.endswith("/relay_identity") else secrets.token_urlsafe(_BYTES)


def ensure_secrets(
    path: Path, names: Collection[str], *, check: bool, vault: Vault = PLAIN, known: Collection[str] = ()
) -> Secrets:
    """Create missing secrets and keep existing ones; write nothing in check mode. Raises BcmError.

    ``known`` are names of those that were made before. If one of them is missing, the file is older than they are.
    """
    check_names(names)
    file = secrets_file(path, vault)
    if check:
        return _add_missing(file, names, known)
    with file.locked():
        result = _add_missing(file, names, known)
        if result.made:
            file.write(format_secrets(result.values))
        elif path.exists():
            with file.disk_errors():
                path.chmod(0o600)
        return result


def secrets_file(path: Path, vault: Vault = PLAIN) -> VaultedFile:
    return VaultedFile(path, "Secrets", vault)


def check_names(names: Iterable[str]) -> None:
    """Check the names of secrets. Raises BcmError."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise BcmError(
                f'Secret "{name}"',
                "cannot be called that",
                "write <stack>/<what> or <stack>/<service>/<consumer>",
                code="invalid_value",
            )


def read_secrets(path: Path, vault: Vault) -> dict[str, str]:
    """All secrets by name. Raises BcmError."""
    return _read(secrets_file(path, vault))


def keep_secrets(path: Path, values: Mapping[str, str], *, check: bool, vault: Vault = PLAIN) -> list[str]:
    """Keep secrets that were made elsewhere and return the names of the new ones; write nothing in check mode.

    Raises BcmError, also if one of them is kept with another value.
    """
    check_names(values)
    file = secrets_file(path, vault)
    with contextlib.nullcontext() if check else file.locked():
        present = _read(file)
        if other := sorted(name for name in values if present.get(name, values[name]) != values[name]):
            raise BcmError(
                file.path,
                f"has another value of {', '.join(other)}",
                "nothing was changed; if the data center was restored from a copy, put that of its secrets back, too",
                code="data_at_risk",
            )
        made = sorted(set(values).difference(present))
        if made and not check:
            try:
                text = format_secrets({**present, **values})
                parse_secrets(text)
            except ValueError as error:
                raise BcmError("A secret", f"cannot be kept: {error}", code="invalid_value") from error
            file.write(text)
        return made


@contextlib.contextmanager
def change_secrets(path: Path, vault: Vault) -> Iterator[dict[str, str]]:
    """Yield all secrets for changing while other runs wait; write them if nothing is raised. Raises BcmError."""
    file = secrets_file(path, vault)
    with file.locked():
        values = _read(file)
        yield values
        file.write(format_secrets(values))


def parse_secrets(text: str) -> dict[str, str]:
    """Parse the secrets in a text. Raises ValueError if it is malformed, BcmError for a wrong name."""
    try:
        content = read_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it holds no JSON (line {error.lineno})") from error
    try:
        found = texts_of(content)
    except ValueError:
        raise ValueError("it holds no mapping of names to secrets") from None
    check_names(found)
    for name, value in found.items():
        # They become part of files, where a line break or a quote could inject something.
        if name.endswith("/relay_identity"):
            parse_identity(value)
        elif not _VALUE.fullmatch(value):
            raise ValueError(
                f"{name} needs 8 to 1000 letters, digits and signs of ASCII, without quotes, backslashes, line breaks"
            )
    return dict(found)


def format_secrets(values: Mapping[str, str]) -> str:
    """Format secrets as `parse_secrets` reads them."""
    return f"{json.dumps(values, indent=2, sort_keys=True)}\n"


def _add_missing(file: VaultedFile, names: Collection[str], known: Collection[str]) -> Secrets:
    present = _read(file)
    made = sorted(set(names).difference(present))
    if gone := [name for name in made if name in known]:
        raise BcmError(
            file.path,
            f"lacks {', '.join(gone)}, which the data center has made already: it may be an older copy",
            "put the newest copy of it back; or give each a new value with `bcm secret edit`",
            code="data_at_risk",
        )
    return Secrets({**present, **{name: new_secret(name) for name in made}}, made)


def _read(file: VaultedFile) -> dict[str, str]:
    text = file.read()
    try:
        return {} if text is None else parse_secrets(text)
    except ValueError as error:
        raise damaged(file.path, str(error)) from error
