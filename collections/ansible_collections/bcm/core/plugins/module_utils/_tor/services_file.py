# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The onion services of a data center on the controller's disk: one file, with all keys, in a vault."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from .._base.errors import BcmError
from .._base.vault import PLAIN, Vault
from .._base.vaulted_file import PATIENCE, VaultedFile, as_json, damaged
from .services import Service, check_keys, parse_record

FORMAT = 1


class ServicesFile:
    """Raises BcmError if the file is damaged, cannot be decrypted, is another ``owner``'s, or the disk fails."""

    def __init__(
        self, directory: Path, chain: str, patience: float = PATIENCE, vault: Vault = PLAIN, owner: str = ""
    ) -> None:
        self.path = directory / f"{chain}.onions.json"
        self._file = VaultedFile(self.path, "Onion services", vault, patience)
        self._owner = owner

    def read(self) -> dict[str, Service]:
        """All services by name, each key checked."""
        content = self._file.read_mapping()
        if content is None:
            return {}
        if not isinstance(content.get("services"), dict):
            raise damaged(self.path, "it holds no onion services")
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
        self._file.write(as_json(content))

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other runs from changing services meanwhile; BcmError if another one does not end soon."""
        return self._file.locked()
