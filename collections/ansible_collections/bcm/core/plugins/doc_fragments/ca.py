# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of all that works with the certificate authority of a data center: C(bcm.core.ca)."""

    DOCUMENTATION = r"""
options:
  chain:
    description: The chain.
    type: str
    choices: [mainnet, testnet3, testnet4, signet, regtest]
    required: true
  domain:
    description: The domain of the data center. It names the authority, which may certify it and all below it.
    type: str
    required: true
  domains:
    description: More domains that it may certify.
    type: list
    elements: str
    default: []
  subnets:
    description: Networks whose addresses it may certify. Without them, none.
    type: list
    elements: str
    default: []
  provider:
    description:
      - Where the root key is. V(trezor) is a hardware wallet, V(software) a file beside the secrets, which only chain
        regtest may use.
    type: str
    choices: [trezor, software]
    default: trezor
  device:
    description:
      - The hardware wallet, if there are several, as trezorlib calls it, such as V(webusb:001:2). Without it,
        C(TREZOR_PATH) of the environment, or the one that is connected.
    type: str
  software_ca_chains:
    description: Chains other than regtest that may use O(provider=software).
    type: list
    elements: str
    default: []
  directory:
    description: The directory of the files. The default is C(secrets) beside the first file of the inventory.
    type: path
  vault_id:
    description:
      - The name of the Ansible vault in which private keys are kept, whose password the run was given with
        C(--vault-id). Without it, they are not encrypted. With it, a file that is not encrypted is refused.
    type: str
attributes:
  action_group:
    description: Use C(group/bcm.core.ca) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - bcm.core.ca
"""
