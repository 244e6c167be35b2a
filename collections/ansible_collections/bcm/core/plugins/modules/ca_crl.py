#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_crl
short_description: Revoke certificates and renew the revocation lists of a data center
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Each root and each intermediate has a list. It is signed again when a third of its time is left, or if something was
    revoked. What has been revoked stays so.
extends_documentation_fragment:
  - bcm.core.ca
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
options:
  revoke:
    description: Certificates to revoke.
    type: list
    elements: dict
    default: []
    suboptions:
      serial:
        description: The serial in hexadecimal, as M(bcm.core.ca_info) returns it.
        type: str
        required: true
      reason:
        description: The reason.
        type: str
        choices:
          - unspecified
          - key_compromise
          - affiliation_changed
          - superseded
          - cessation_of_operation
          - privilege_withdrawn
        default: unspecified
seealso:
  - module: bcm.core.ca_info
"""

EXAMPLES = r"""
- name: A phone was stolen
  bcm.core.ca_crl:
    chain: mainnet
    domain: home-mainnet.bcm
    revoke:
      - serial: 3c8f2a1b90
        reason: key_compromise
"""

RETURN = r"""
crl:
  description: The revocation lists of all roots and intermediates, as PEM.
  returned: success
  type: str
confirmations:
  description: What the root key signs, in order, and a device asks to confirm. In check mode, what it would ask.
  returned: success
  type: list
  elements: str
  sample: ["crl g1"]
signed:
  description: What the root key signed, as the device shows it, one confirmation for each.
  returned: success
  type: list
  elements: str
  sample: ["crl g1 0b8e77d1"]
path:
  description: The file with all that is public. Private keys are in C(CHAIN.keys.json) beside it.
  returned: success
  type: str
"""
