# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_public_key

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter import backup_keys

SECRET = base64.urlsafe_b64encode(bytes(range(32))).rstrip(b"=").decode()
OTHER = base64.urlsafe_b64encode(bytes(range(1, 33))).rstrip(b"=").decode()
# age -r RECIPIENT, of Debian, of "channels"
RECIPIENT = "age13aqvttdk3ujkyjh9kg2w5an6dmy5mq5a84a4uxk3hfhnugfc9p0sy5p2wh"
IDENTITY = "AGE-SECRET-KEY-1QQQSYQCYQ5RQWZQFPG9SCRGWPUGPZYSNZS23V9CCRYDPK8QARC0SWRYDWG"
SMALL = base64.b64decode(
    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBLeURqWW9SQnUrQWdQSkNyN3hoanY1MThIck1BbG1nZnFPdWRXTnBhVWcw"
    "CldnV24yNkovbEs3aTJnd0hPOGRsdHlpVGFodGdsUWVTS1lPSDRiSWZwckEKLS0tIEJYeTh2bkJpKzNrNjJTWGdLd3RXRWtFUkhQ"
    "REc0WEhrdkZEcE1tQlJTcTgKJmRHA2bxvcg28A/3/DHFenW9VWwhO55shQTFH24y0ZBPHUh7UR4cwA=="
)


def test_recipient_and_identity_are_what_age_takes() -> None:
    assert backup_keys.recipient(SECRET) == RECIPIENT
    assert backup_keys.identity(SECRET) == IDENTITY


def test_what_age_encrypted_is_decrypted() -> None:
    assert backup_keys.decrypt(SECRET, SMALL) == b"channels"


def test_another_key_does_not_decrypt() -> None:
    with pytest.raises(BcmError, match="is not encrypted to this data center") as caught:
        backup_keys.decrypt(OTHER, SMALL)
    assert caught.value.code == "wrong_key"


@pytest.mark.parametrize("cut", [0, 1, 20, 60, len(SMALL) - 30, len(SMALL) - 1])
def test_a_file_that_is_not_whole_is_refused(cut: int) -> None:
    with pytest.raises(BcmError, match="The copy is") as caught:
        backup_keys.decrypt(SECRET, SMALL[:cut])
    assert caught.value.code == "damaged"


@pytest.mark.parametrize("at", range(len(SMALL)))
def test_a_changed_byte_is_noticed(at: int) -> None:
    changed = bytearray(SMALL)
    changed[at] ^= 1
    with pytest.raises(BcmError, match="The copy"):
        backup_keys.decrypt(SECRET, bytes(changed))


def test_both_halves_of_the_ssh_key_belong_together() -> None:
    private = load_pem_private_key(backup_keys.ssh_private_key(SECRET).encode(), None)
    public = load_ssh_public_key(backup_keys.ssh_public_key(SECRET).encode())
    assert private.public_key() == public
    assert backup_keys.ssh_private_key(SECRET) == backup_keys.ssh_private_key(SECRET)


@pytest.mark.parametrize("secret", ["", "short", "ü" * 43, SECRET * 2])
def test_a_secret_that_is_no_key_is_refused(secret: str) -> None:
    for derive in (backup_keys.recipient, backup_keys.ssh_private_key):
        with pytest.raises(BcmError, match="is not 256 bits"):
            derive(secret)
