# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's vault as a `Vault`, with a password that is given or that of the run."""

from __future__ import annotations

from ansible.errors import AnsibleError
from ansible.parsing.vault import AnsibleVaultFormatError, VaultLib, VaultSecret, VaultSecretsContext

from ..module_utils._base import vault
from ..module_utils._base.errors import BcmError


class AnsibleVault:
    """Encrypts in format 1.2, so that the file says which password it needs."""

    def __init__(self, vault_id: str, password: bytes) -> None:
        self._id, self._secret = vault_id, VaultSecret(password)

    def seal(self, text: str) -> str:
        return str(VaultLib().encrypt(text, secret=self._secret, vault_id=self._id).decode())

    def open(self, text: str, where: object) -> str:
        if not vault.is_encrypted(text):
            vault_id = f"{self._id}@bcm-vault-client"
            raise BcmError(
                where,
                f"is not encrypted, as everything of vault {self._id} has to be, so it may have been replaced",
                "put a copy of it back; if what it holds is yours, type `ansible-vault encrypt --vault-id "
                f"{vault_id} --encrypt-vault-id {self._id} {where}`",
                code="not_verified",
            )
        found = vault.vault_id(text)
        try:
            # under the name it has there, for Ansible may be told to try no other
            return str(VaultLib([(found, self._secret)]).decrypt(text).decode())
        except (AnsibleVaultFormatError, UnicodeError) as error:
            raise BcmError(
                where, "is damaged, it is no vault of Ansible's", "put a copy of it back", code="damaged"
            ) from error
        except AnsibleError as error:
            other = "" if found == self._id else f", and for vault {found}, not {self._id}"
            raise BcmError(
                where,
                f"cannot be decrypted: it was encrypted with another device or passphrase{other}, or it is damaged",
                "connect the right device and type the right passphrase, or put a copy of the file back",
                code="wrong_key",
            ) from error


def of_run(vault_id: str | None) -> vault.Vault:
    """Return the vault whose password the run was given. Raises BcmError if there is none of that name."""
    if not vault_id:
        return vault.PLAIN
    # Ansible sets it before it forks its workers
    context = VaultSecretsContext.current(optional=True)
    for name, secret in context.secrets if context else []:
        if name == vault_id:
            return AnsibleVault(vault_id, secret.bytes)
    raise BcmError(
        "This run",
        f"was not given the password of vault {vault_id}",
        f"run it with --vault-id {vault_id}@bcm-vault-client, or use bcm",
        code="wrong_key",
    )
