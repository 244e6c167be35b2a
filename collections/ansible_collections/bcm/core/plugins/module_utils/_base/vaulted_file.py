# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Private files in a vault, each replaced as a whole, by one run at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .disk import disk_errors, make_private_directory, remove_drafts, write_files
from .errors import BcmError
from .locks import hold_lock_within
from .read import read_json
from .vault import PLAIN, Vault, is_encrypted

PATIENCE = 10.0  # seconds


class VaultedFile:
    """A private file; ``title`` is what errors call its content. ``vault`` None: an encrypted one cannot be read.

    Raises BcmError if it is damaged, cannot be decrypted, or the disk fails.
    """

    def __init__(self, path: Path, title: str, vault: Vault | None = PLAIN, patience: float = PATIENCE) -> None:
        self.path = path
        self._title, self._vault, self._patience = title, vault, patience
        self._decrypted = ("", "")

    def read(self) -> str | None:
        """The decrypted text; None if there is no file, or it is encrypted and there is no vault."""
        with self.disk_errors():
            try:
                text = self.path.read_text(encoding="utf-8")
            except FileNotFoundError:
                return None
            except UnicodeDecodeError as error:
                raise damaged(self.path, "it holds no text") from error
        if self._vault is None and is_encrypted(text):
            return None
        if self._decrypted[0] != text:  # decrypting takes longer than all else
            self._decrypted = (text, (self._vault or PLAIN).open(text, self.path))
        return self._decrypted[1]

    def read_mapping(self) -> dict[str, Any] | None:
        """The mapping in JSON that the file holds; None as for `read`."""
        text = self.read()
        if text is None:
            return None
        try:
            content = read_json(text)
        except ValueError as error:
            raise damaged(self.path, "it holds no JSON") from error
        if not isinstance(content, dict):
            raise damaged(self.path, "it holds no mapping")
        return content

    def draft(self, text: str) -> tuple[Path, str, int]:
        """What `write_files` takes to replace the file. Needs the lock."""
        if self._vault is None:
            raise BcmError(
                self.path,
                "cannot be written without its vault",
                "give the vault of the data center",
                code="wrong_key",
            )
        if not self.path.exists():
            self._check_password(self._vault)
        return self.path, self._vault.seal(text), 0o600

    def _check_password(self, vault: Vault) -> None:
        """Raise BcmError if files beside this one, which is new, have another password: it changed meanwhile."""
        if vault is PLAIN:
            return
        for other in sorted(self.path.parent.glob("*.json")):
            if is_encrypted(text := other.read_text(encoding="utf-8", errors="replace")):
                try:
                    vault.open(text, other)
                except BcmError as error:
                    raise BcmError(
                        self.path,
                        f"would get another password than {other} has",
                        "run it again, since the password was changed meanwhile; or that file is of another device, or "
                        "passphrase, or damaged",
                        code="wrong_key",
                    ) from error
                return

    def write(self, text: str) -> None:
        """Replace the file. Needs the lock."""
        with self.disk_errors():
            write_files(self.draft(text))

    @contextlib.contextmanager
    def locked(self, *others: Path, remedy: str = "wait until it has ended, and run again") -> Iterator[None]:
        """Keep other runs from writing this file and others meanwhile, and remove what a killed one left of them.

        Raises BcmError with the remedy if another run does not end soon.
        """
        busy = BcmError(
            f"Another run has been at work on {self.path} for {self._patience:.0f} s",
            remedy=remedy,
            code="busy",
            about=str(self.path),
        )
        with contextlib.ExitStack() as stack:
            with self.disk_errors():
                make_private_directory(self.path.parent)
                lock = self.path.with_name(f".{self.path.stem}.lock")
                stack.enter_context(hold_lock_within(lock, self._patience, busy))
                for path in (self.path, *others):
                    remove_drafts(path)
            yield

    def disk_errors(self) -> contextlib.AbstractContextManager[None]:
        """Convert OSError to BcmError."""
        return disk_errors(f"{self._title} in {self.path.parent}")


def damaged(path: Path, fault: str) -> BcmError:
    """Return the error for a file that holds something else than it should."""
    return BcmError(path, f"is damaged, {fault}", "put a copy of it back", code="damaged")


def as_json(content: Mapping[str, Any]) -> str:
    return f"{json.dumps(content, indent=1)}\n"
