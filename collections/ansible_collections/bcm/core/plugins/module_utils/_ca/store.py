# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An authority on the controller's disk: one file that anybody may read, and one of private keys.

Each is replaced as a whole, the keys first, so that whatever happens, all certificates are there with their chains and
their keys.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._disk import private, put, remove_drafts, told
from .._errors import BcmError
from .._locks import awaited
from .._vault import PLAIN, Vault

FORMAT = 1
_PATIENCE = 10.0  # seconds


class Store:
    """The files of one authority below ``directory``, the private one in a vault.

    Raises BcmError if a file is damaged, cannot be decrypted, or the disk fails.
    """

    def __init__(self, directory: Path, chain: str, patience: float = _PATIENCE, vault: Vault = PLAIN) -> None:
        self.directory = directory
        self.public = directory / f"{chain}.pki.json"
        self.private = directory / f"{chain}.keys.json"
        self._lock = directory / f".{chain}.pki.lock"
        self._patience, self._vault = patience, vault

    def read(self) -> dict[str, Any] | None:
        """What is public; None if there is nothing yet."""
        content = self._read(self.public, PLAIN)
        if content is not None and content.get("format") != FORMAT:
            raise BcmError(f"{self.public} is of format {content.get('format')}, known is {FORMAT}: use the newer bcm")
        return content

    def keys(self) -> dict[str, str]:
        """Private keys by the identifiers of their public keys, and PKCS#12 by those of their certificates."""
        return self._read(self.private, self._vault) or {}

    def write(self, public: Mapping[str, Any], keys: Mapping[str, str] | None) -> None:
        """Replace what is public, and before that the keys if they changed. Needs the lock."""
        with self._told():
            wanted = [] if keys is None else [(self.private, self._vault.seal(_text(keys)), 0o600)]
            put(*wanted, (self.public, _text({"format": FORMAT, **public}), 0o644))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from writing meanwhile; BcmError if another one does not end soon."""
        with self._told():
            private(self.directory)
        busy = BcmError(
            f"Another run has been at work on {self.public} for {self._patience:.0f} s: wait until it has ended, or "
            "answer it on the device, and run again"
        )
        with contextlib.ExitStack() as stack:
            with self._told():
                stack.enter_context(awaited(self._lock, self._patience, busy))
                for path in (self.public, self.private):
                    remove_drafts(path)
            yield

    def _read(self, path: Path, vault: Vault) -> dict[str, Any] | None:
        with self._told():
            try:
                content = json.loads(vault.open(path.read_text(encoding="utf-8"), path))
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise BcmError(f"{path} is damaged, it holds no JSON: put a copy of it back") from error
        if not isinstance(content, dict):
            raise BcmError(f"{path} is damaged, it holds no mapping: put a copy of it back")
        return content

    def _told(self) -> contextlib.AbstractContextManager[None]:
        return told(f"Certificates in {self.directory}")


def _text(content: Mapping[str, Any]) -> str:
    return f"{json.dumps(content, indent=1)}\n"
