# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private keys, for the tasks that put them where they are used."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ca_key
short_description: Read the private key of a certificate of the data center
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Returns the key that M(bcm.core.ca_authority) or M(bcm.core.ca_certificate) created for a certificate, as PEM.
  - A key is therefore in no result and no variable, only in the task that writes it. Mark that as sensitive.
  - In check mode, a certificate that does not exist yet has an empty key.
options:
  _terms:
    description: Names of certificates.
    type: list
    elements: str
    required: true
  chain:
    description: The chain.
    type: str
    required: true
  vault_id:
    description: The Ansible vault id that encrypts the keys, if any.
    type: str
  directory:
    description: The directory of the files. The default is C(secrets) beside the first file of the inventory.
    type: path
"""

EXAMPLES = r"""
- name: Write a key
  bcm.core.lxd_file:
    instance: electrs
    files:
      - path: /etc/bcm/tls/key.pem
        content: "{{ lookup('bcm.core.ca_key', 'electrs', chain='regtest') }}"
        sensitive: true
"""

RETURN = r"""
_raw:
  description: The keys, as PEM.
  type: list
  elements: str
"""

import typing as t
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import shown
from ansible_collections.bcm.core.plugins.module_utils._ca.authority_files import AuthorityFiles
from ansible_collections.bcm.core.plugins.module_utils._ca.report import read_private_key
from ansible_collections.bcm.core.plugins.plugin_utils._action import secrets_directory
from ansible_collections.bcm.core.plugins.plugin_utils.ansible_vault import of_run


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            directory = Path(self.get_option("directory") or secrets_directory(variables or {}))
            files = AuthorityFiles(directory, self.get_option("chain"), vault=of_run(self.get_option("vault_id")))
            keys = {name: read_private_key(files, name) for name in terms}
        except BcmError as error:
            raise AnsibleError(shown(str(error))) from error
        lost = [name for name, key in keys.items() if key is None]
        if lost and not (variables or {}).get("ansible_check_mode"):
            raise AnsibleError(f"{files.private} has no key of certificate {', '.join(lost)}: run ca_authority first")
        return [key or "" for key in keys.values()]
