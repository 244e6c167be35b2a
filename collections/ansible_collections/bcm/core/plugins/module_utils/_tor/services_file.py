# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The onion services of a data center on the controller's disk: one file, with all keys, in a vault."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from .._base.disk import disk_errors, make_private_directory, remove_drafts, write_files
from .._base.errors import BcmError
from .._base.locks import hold_lock_within
from .._base.read import read_json
from .._base.vault import PLAIN, Vault
from .services import Service, check_keys, parse_record

FORMAT = 1
_PATIENCE = 10.0  # seconds


class ServicesFile:
    """Raises BcmError if the file is damaged, cannot be decrypted, is another ``owner``'s, or the disk fails."""

    def __init__(
        self, directory: Path, chain: str, patience: float = _PATIENCE, vault: Vault = PLAIN, owner: str = ""
    ) -> None:
        self.directory = directory
        self.path = directory / f"{chain}.onions.json"
        self._lock = directory / f".{chain}.onions.lock"
        self._patience, self._vault, self._owner = patience, vault, owner

    def read(self) -> dict[str, Service]:
        """All services by name, each key checked."""
        with self._told():
            try:
                content = read_json(self._vault.open(self.path.read_text(encoding="utf-8"), self.path))
            except FileNotFoundError:
                return {}
            except ValueError as error:
                raise BcmError(
                    self.path, "is damaged, it holds no JSON", "put a copy of it back", code="damaged"
                ) from error
        if not isinstance(content, dict) or not isinstance(content.get("services"), dict):
            raise BcmError(self.path, "is damaged, it holds no onion services", "put a copy of it back", code="damaged")
        if content.get("format") != FORMAT:
            raise BcmError(
                self.path,
                f"is of format {content.get('format')}, known is {FORMAT}",
                "use the newer bcm",
                code="unsupported",
            )
        other = content.get("owner", "")
        if self._owner and other not in ("", self._owner):
            raise BcmError(
                f"The onion services in {self.path}",
                f"are those of {other}, and this is {self._owner}: two data centers with the same keys would take "
                "each other's connections;",
                "take the file away, and this one gets addresses of its own",
                code="wrong_key",
            )
        services = {name: parse_record(name, record) for name, record in content["services"].items()}
        check_keys(services.values())
        return services

    def write(self, services: Iterable[Service]) -> None:
        """Replace them all. Needs the lock."""
        kept = {service.name: service.record() for service in services}
        content = {"format": FORMAT, "owner": self._owner, "services": kept}
        with self._told():
            write_files((self.path, self._vault.seal(f"{json.dumps(content, indent=1)}\n"), 0o600))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from changing services meanwhile; BcmError if another one does not end soon."""
        busy = BcmError(
            f"Another run has been at work on {self.path} for {self._patience:.0f} s",
            remedy="wait until it has ended, and run again",
            code="busy",
            about=str(self.path),
        )
        with contextlib.ExitStack() as stack:
            with self._told():
                make_private_directory(self.directory)
                stack.enter_context(hold_lock_within(self._lock, self._patience, busy))
                remove_drafts(self.path)
            yield

    def _told(self) -> contextlib.AbstractContextManager[None]:
        return disk_errors(f"Onion services in {self.directory}")
