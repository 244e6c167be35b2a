# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets of a data center on a chain: a file beside the inventory that only its owner reads."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..module_utils._disk import draft
from ..module_utils._errors import BcmError
from ._action import plain

# 256 bits
_BYTES = 32
_NAME = re.compile(r"[a-z0-9]+(/[a-z0-9_]+)+")


@dataclass(frozen=True)
class Secrets:
    """All secrets by name, and the names of those that were just made."""

    values: dict[str, str]
    made: list[str]

    def of_stacks(self) -> dict[str, dict[str, str]]:
        """For each stack the secrets it may know: its own, and as a consumer those of the services it uses."""
        result: dict[str, dict[str, str]] = {}
        for name, value in self.values.items():
            stack, _service, *consumer = name.split("/")
            for holder in (stack, *consumer):
                result.setdefault(holder, {})[name] = value
        return result


def beside_inventory(task_vars: Mapping[str, Any]) -> Path:
    """Where the secrets of the data center are: beside the first file of the inventory. Raises BcmError."""
    for source in plain(task_vars.get("ansible_inventory_sources") or []):
        path = Path(source)
        if path.exists():
            return (path if path.is_dir() else path.parent) / "secrets"
    raise BcmError("The secrets have no place, since no inventory file is in use: set the option directory")


def ensure(path: Path, names: Collection[str], *, check: bool) -> Secrets:
    """Make the secrets that are missing, keep those there are; in check mode write nothing. Raises BcmError."""
    for name in names:
        if not _NAME.fullmatch(name):
            raise BcmError(
                f'Secret "{name}" cannot be called that: write <stack>/<what> or <stack>/<service>/<consumer>'
            )
    try:
        if check:
            return _completed(_read(path), names)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(path.parent):
            result = _completed(_read(path), names)
            if result.made:
                _write(path, result.values)
            elif path.exists():
                path.chmod(0o600)
            return result
    except OSError as error:
        raise BcmError(f"Secrets: {error.filename or path}: {error.strerror}") from error


def _completed(present: dict[str, str], names: Collection[str]) -> Secrets:
    made = sorted(set(names).difference(present))
    return Secrets({**present, **{name: secrets.token_urlsafe(_BYTES) for name in made}}, made)


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BcmError(f"{path} is damaged: it holds no JSON; put a copy of it back, it is not overwritten") from error
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise BcmError(f"{path} is damaged: it holds no mapping of names to secrets; put a copy of it back")
    return content


def _write(path: Path, values: dict[str, str]) -> None:
    # inventories are often kept in git
    (path.parent / ".gitignore").write_text("*\n", encoding="utf-8")
    with draft(path, f"{json.dumps(values, indent=2, sort_keys=True)}\n") as written:
        os.replace(written, path)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two runs must not each make a secret of the same name."""
    directory.chmod(0o700)
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
