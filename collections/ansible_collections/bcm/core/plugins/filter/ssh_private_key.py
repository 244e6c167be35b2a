# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH key of a secret."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh_private_key
short_description: Convert a secret to a private key of SSH
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Returns an Ed25519 key in PEM, derived from a secret of 256 bits. The same secret has the same key.
  - It is a secret. Mark the file it is written to as sensitive.
options:
  _input:
    description: The secret.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Give a stack the key with which it logs in
  bcm.core.lxd_file:
    instance: backups
    files:
      - path: /etc/backups/ssh_key
        content: "{{ bcm_secrets['backups/ssh_key'] | bcm.core.ssh_private_key }}"
        mode: "0600"
        sensitive: true
"""

RETURN = r"""
_value:
  description: The key.
  type: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter import backup_keys


def ssh_private_key(secret: t.Any) -> str:
    """Raises AnsibleFilterError if the secret cannot be a key."""
    try:
        return backup_keys.ssh_private_key(str(secret))
    except BcmError as error:
        raise AnsibleFilterError(str(error)) from None


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., str]]:
        return {"ssh_private_key": ssh_private_key}
