#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_root
short_description: Create or rotate the root certificate of a data center
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Makes the first root, or the next one. One that is there stays as it is.
  - The next root is also signed by the one before, so that a client that trusts only that one accepts for 90 days
    what is issued from then on. The one before is trusted, and signs its revocation list, as long as it is needed.
extends_documentation_fragment:
  - bcm.core.ca
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
options:
  generation:
    description:
      - The generation of the root. To rotate, give the next one. Without it, the current one, or V(1).
      - If what was issued is lost, give the one after the last.
    type: int
  allow_new_root:
    description: Consent to a new root. A new key is made, or derived by the device.
    type: bool
    default: false
  days:
    description: How long a new root is good for.
    type: int
    default: 3650
seealso:
  - module: bcm.core.ca_intermediate
"""

EXAMPLES = r"""
- name: The root of the data center
  bcm.core.ca_root:
    chain: mainnet
    domain: home-mainnet.bcm
    allow_new_root: true

- name: Rotate it
  bcm.core.ca_root:
    chain: mainnet
    domain: home-mainnet.bcm
    generation: 2
    allow_new_root: true
"""

RETURN = r"""
roots:
  description: All roots there were, the current one last.
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
      description: The index of the identity.
      type: int
    uri:
      description: The SLIP-0013 identity of the key.
      type: str
      sample: gpg://x509-root@home-mainnet.bcm/pki
    path:
      description: The BIP32 path of the key.
      type: str
    key:
      description: SHA-256 of the public key.
      type: str
    trusted:
      description: Whether anything that is good rests on it.
      type: bool
trust:
  description: The roots to trust, as PEM. After a rotation these are two for a while.
  returned: success
  type: str
confirmations:
  description: What the root key signs, in order, and a device asks to confirm. In check mode, what it would ask.
  returned: success
  type: list
  elements: str
  sample: ["root g1"]
signed:
  description: What the root key signed, as the device shows it, one confirmation for each.
  returned: success
  type: list
  elements: str
  sample: ["root g1 3f9a11c2"]
path:
  description: The file with all that is public. Private keys are in C(CHAIN.keys.json) beside it.
  returned: success
  type: str
"""
