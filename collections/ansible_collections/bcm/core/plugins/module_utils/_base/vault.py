# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encryption of private files: none, or a vault whose password a device derives."""

from __future__ import annotations

from typing import Protocol

from .errors import BcmError

HEADER = "$ANSIBLE_VAULT"


class Vault(Protocol):
    """Encrypts whole files."""

    def seal(self, text: str) -> str: ...

    def open(self, text: str, where: object) -> str:
        """``where`` it was read. Raises BcmError if it cannot be decrypted, or is not as `seal` leaves it."""


class _Plain:
    def seal(self, text: str) -> str:
        return text

    def open(self, text: str, where: object) -> str:
        if not is_encrypted(text):
            return text
        raise BcmError(
            where,
            "is encrypted",
            f"run it with --vault-id {vault_id(text)}@bcm-vault-client, or use bcm",
            code="wrong_key",
        )


#: encrypts nothing
PLAIN: Vault = _Plain()


def vault_id(text: str) -> str:
    """Return the vault id of an encrypted text: the fourth field of the header, since format 1.2 of Ansible's vault."""
    fields = text.split("\n", 1)[0].strip().split(";")
    return fields[3] if len(fields) > 3 else "default"


def is_encrypted(text: str) -> bool:
    return text.startswith(HEADER)
