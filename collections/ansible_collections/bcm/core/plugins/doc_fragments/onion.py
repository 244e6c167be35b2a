# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of the modules for onion services: C(bcm.core.onion)."""

    DOCUMENTATION = r"""
options:
  chain:
    description: The chain.
    type: str
    choices: [mainnet, testnet3, testnet4, signet, regtest]
    required: true
  instance:
    description: The instance that runs tor, as the role C(tor) configures it.
    type: str
    default: tor
  directory:
    description:
      - The directory of the file C(CHAIN.onions.json), which contains all onion services with their keys. The default
        is C(secrets) beside the first file of the inventory.
    type: path
  vault_id:
    description:
      - The name of the Ansible vault that encrypts the file; the run gets its password with C(--vault-id). Without it,
        the file is not encrypted. With it, a file that is not encrypted is refused.
    type: str
attributes:
  action_group:
    description: Use C(group/bcm.core.onion) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - bcm.core.onion
"""

    DEADLINE = r"""
options:
  deadline:
    description: Seconds within which all new or changed services have to be published.
    type: float
    default: 600.0
"""
