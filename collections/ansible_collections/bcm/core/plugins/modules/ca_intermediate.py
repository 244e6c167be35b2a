#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_intermediate
short_description: Create or renew the intermediate of a data center
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - The intermediate signs the certificates, so that the root signs rarely. It can certify nothing but the domains and
    networks of the data center, and no other authority.
  - Another one is made when a third of its time is left, when what it may certify changes, or after a rotation of the
    root. What the former one signed stays good.
extends_documentation_fragment:
  - bcm.core.ca
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
options:
  replace_lost:
    description:
      - If the key of the intermediate is lost, revoke it and make another one. If the whole file of private keys is,
        nothing else tells whether the public one is the newest, and this says that it is.
    type: bool
    default: false
  days:
    description: How long a new one is good for.
    type: int
    default: 90
seealso:
  - module: bcm.core.ca_root
  - module: bcm.core.ca_certificate
"""

EXAMPLES = r"""
- name: The intermediate of the data center
  bcm.core.ca_intermediate:
    chain: mainnet
    domain: home-mainnet.bcm
    subnets: [10.92.17.0/24]
"""

RETURN = r"""
intermediates:
  description: All intermediates that have not expired, the newest last.
  returned: success
  type: list
  elements: dict
  contains:
    subject:
      description: Its common name.
      type: str
    serial:
      description: Its serial, in hexadecimal.
      type: str
    fingerprint:
      description: SHA-256 of the certificate.
      type: str
    not_before:
      description: When it begins.
      type: str
    not_after:
      description: When it ends.
      type: str
    days_left:
      description: Whole days until then.
      type: int
    revoked:
      description: Whether it is revoked.
      type: bool
    certificate:
      description: The certificate, as PEM.
      type: str
    generation:
      description: The generation of the root that signed it.
      type: int
    permitted:
      description: What it may certify.
      type: str
confirmations:
  description: What the root key signs, in order, and a device asks to confirm. In check mode, what it would ask.
  returned: success
  type: list
  elements: str
  sample: ["inter g1"]
signed:
  description: What the root key signed, as the device shows it, one confirmation for each.
  returned: success
  type: list
  elements: str
  sample: ["inter g1 90db9fae"]
path:
  description: The file with all that is public. Private keys are in C(CHAIN.keys.json) beside it.
  returned: success
  type: str
"""
