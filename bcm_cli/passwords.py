# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The passwords with which encrypted variables are read: those of Ansible's configuration, and the data center's."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from ansible import constants
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret, VaultSecretsContext

from ansible_collections.bcm.core.plugins.module_utils._base.vault import HEADER


class Loader(DataLoader):
    """Reads variable files, and can leave out those that are encrypted as a whole, since their password is needed."""

    def __init__(self) -> None:
        super().__init__()
        #: the files that were left out
        self.left_out: set[str] = set()
        self._leaves_out = False

    @contextlib.contextmanager
    def without_encrypted_files(self) -> Iterator[None]:
        self._leaves_out = True
        try:
            yield
        finally:
            self._leaves_out = False

    def load_from_file(self, file_name: str, *args: Any, **options: Any) -> Any:
        if self._leaves_out and self._is_encrypted(file_name):
            self.left_out.add(file_name)
            return {}
        return super().load_from_file(file_name, *args, **options)

    def _is_encrypted(self, file_name: str) -> bool:
        try:
            with open(self.path_dwim(file_name), "rb") as file:
                return file.read(len(HEADER)) == HEADER.encode()
        except OSError:
            return False


class _OwnPassword(VaultSecret):
    """The password of a data center's vault, which is asked for when something needs it, and once."""

    def __init__(self, ask: Callable[[], str]) -> None:
        super().__init__()
        self._password = functools.cache(lambda: ask().encode())

    @property
    def bytes(self) -> bytes:
        return self._password()


def give_passwords(loader: DataLoader, vault_id: str, ask: Callable[[], str]) -> None:
    """Have a loader decrypt; ``ask`` returns the password of the vault of that name. Raises AnsibleError."""
    known: list[tuple[str, VaultSecret]] = []
    if constants.DEFAULT_VAULT_IDENTITY_LIST or constants.DEFAULT_VAULT_PASSWORD_FILE:
        from ansible.cli import CLI  # takes long

        ids = list(constants.DEFAULT_VAULT_IDENTITY_LIST or ())
        known = CLI.setup_vault_secrets(loader, ids, auto_prompt=False, initialize_context=False)
    known.append((vault_id, _OwnPassword(ask)))
    loader.set_vault_secrets(known)
    # where Ansible looks when a single value is encrypted
    context = VaultSecretsContext.current(optional=True)
    if context is None:
        VaultSecretsContext.initialize(VaultSecretsContext(known))
    else:
        context.secrets = known
