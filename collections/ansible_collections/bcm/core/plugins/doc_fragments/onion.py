# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of all that works with the onion services of a data center: C(bcm.core.onion)."""

    DOCUMENTATION = r"""
options:
  chain:
    description: The chain.
    type: str
    choices: [mainnet, testnet3, testnet4, signet, regtest]
    required: true
  instance:
    description: The instance in which tor runs, as the role C(tor) sets it up.
    type: str
    default: tor
  directory:
    description:
      - The directory of the file C(CHAIN.onions.json), which has all onion services with their keys. Without it,
        C(secrets) beside the first file of the inventory.
    type: path
  vault_id:
    description:
      - The name of the Ansible vault in which that file is kept, whose password the run was given with
        C(--vault-id). Without it, it is not encrypted. With it, a file that is not encrypted is refused.
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
    description: Seconds until all services have to be published that are new or different.
    type: float
    default: 180.0
"""
