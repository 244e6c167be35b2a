# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords in the form in which bitcoind keeps them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rpcauth
short_description: Make the rpcauth value of a user of bitcoind's RPC
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Returns the value of bitcoind's option C(rpcauth) for a user's name and password.
  - The salt is derived from the password, so that the same password always gives the same value. Use it only for long
    random passwords.
positional: user
options:
  _input:
    description: The password.
    type: str
    required: true
  user:
    description: The user's name.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show a line of bitcoin.conf
  ansible.builtin.debug:
    msg: rpcauth={{ electrs_password | bcm.core.rpcauth('electrs') }}
"""

RETURN = r"""
_value:
  description: The user's name, the salt and the HMAC-SHA256 of the password under it.
  type: str
  sample: electrs:9d5fd8a2ff1f9ea1d4bbe7e5a2f5f1d7$4e4b…
"""

import hashlib
import hmac
import typing as t

from ansible.errors import AnsibleFilterError


def rpcauth(password: t.Any, user: t.Any) -> str:
    """``user:salt$hash`` (bitcoin, doc/JSON-RPC-interface.md); the hash is HMAC-SHA256 under the salt's hex digits."""
    if not isinstance(password, str) or not password or not isinstance(user, str) or not user:
        raise AnsibleFilterError("rpcauth needs a password and the name of a user, both not empty")
    salt = _hmac(password, f"rpcauth salt of {user}")[:32]
    return f"{user}:{salt}${_hmac(salt, password)}"


def _hmac(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"rpcauth": rpcauth}
