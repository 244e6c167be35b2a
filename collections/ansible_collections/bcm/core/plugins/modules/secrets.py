#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secrets
short_description: Create missing secrets of a data center and return all
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Creates missing secrets, each of 256 random bits, keeps those made elsewhere, and returns all. An existing secret
    never changes.
  - They are kept on the controller beside the inventory, in one file for each chain that only its owner can read and
    that git ignores. With O(vault_id), the file is encrypted.
  - The result is hidden from logs.
notes:
  - Ansible reads every file in an inventory directory as a part of the inventory. If the inventory is the directory and
    not a file in it, set C(ignore_patterns=^secrets$) in the section C([inventory]) of C(ansible.cfg).
extends_documentation_fragment:
  - bcm.core.attributes
attributes:
  check_mode:
    support: full
    details:
      - Missing secrets are created for the run, but not written.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  chain:
    description: The chain.
    type: str
    choices: [mainnet, testnet3, testnet4, signet, regtest]
    required: true
  names:
    description:
      - Names of secrets, as C(stack/what) for a secret of one stack, or C(stack/service/consumer) for a secret that two
        stacks share.
      - A name that ends with C(/relay_identity) is the identity of a Tor relay, for P(bcm.core.relay_identity#filter).
      - A name that ends with C(/sealing_key) is a key that decrypts copies of backups, which no stack may know. One
        that ends with C(/ssh_key) is for P(bcm.core.ssh_private_key#filter).
    type: list
    elements: str
    default: []
  values:
    description:
      - Secrets that were made elsewhere, such as the recovery words of a wallet, by name. They are kept beside the
        others.
      - If one is kept with another value already, the module fails.
    type: dict
    default: {}
  known:
    description:
      - Names of secrets that already exist, such as those that the endpoint remembers. If one of O(names) is among them
        and it is missing, the module fails instead of creating another value.
    type: list
    elements: str
    default: []
  directory:
    description: The directory of the files. The default is C(secrets) beside the first file of the inventory.
    type: path
  vault_id:
    description:
      - The name of the Ansible vault that encrypts the file; the run gets its password with C(--vault-id). Without it,
        the file is not encrypted. With it, a file that is not encrypted is refused.
    type: str
seealso:
  - module: bcm.core.plan
"""

EXAMPLES = r"""
- name: Create the secrets of all stacks in the plan
  bcm.core.secrets:
    chain: "{{ planned.plan.chain }}"
    names: "{{ planned.plan.secrets }}"
  register: kept
  no_log: true

- name: Keep the recovery words of a wallet
  bcm.core.secrets:
    chain: regtest
    values: {lnd/recovery_words: "{{ lnd_wallet.answer.words }}"}
  no_log: true

- name: Do the same in the vault of data center home, in a run with --vault-id home@bcm-vault-client
  bcm.core.secrets:
    chain: mainnet
    names: "{{ planned.plan.secrets }}"
    vault_id: home
  no_log: true
"""

RETURN = r"""
secrets:
  description: For each stack, the secrets that it may know, by name.
  returned: success
  type: dict
  sample: {electrs: {bitcoind/rpc/electrs: "…"}}
public:
  description: For each secret that is a key, its public half, by name.
  returned: success
  type: dict
  sample: {backups/sealing_key: age1…}
made:
  description: Names of the secrets that were created.
  returned: success
  type: list
  elements: str
path:
  description: The file.
  returned: success
  type: str
"""
