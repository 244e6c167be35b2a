#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_authority
short_description: Create and renew root, intermediate, certificates and revocation lists
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Does what M(bcm.core.ca_root), M(bcm.core.ca_intermediate), M(bcm.core.ca_certificate) and M(bcm.core.ca_crl) do,
    one after the other, in one session of the device, and says beforehand how often that has to be confirmed.
  - Private keys are not returned without O(return_keys). The lookup P(bcm.core.ca_key#lookup) gives them to the task
    that needs them.
extends_documentation_fragment:
  - bcm.core.ca
  - bcm.core.certificates
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
options:
  certificates:
    default: []
  generation:
    description:
      - The generation of the root. To rotate, give the next one. Without it, the current one, or V(1).
      - If what was issued is lost, give the one after the last.
    type: int
  allow_new_root:
    description: Consent to a new root, if one is needed.
    type: bool
    default: false
  days:
    description: How long new certificates are good for.
    type: int
    default: 30
  return_keys:
    description: Return private keys. The result is then hidden from logs.
    type: bool
    default: false
seealso:
  - module: bcm.core.ca_info
  - plugin: bcm.core.ca_key
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: All that a data center needs
  bcm.core.ca_authority:
    chain: mainnet
    domain: home-mainnet.bcm
    subnets: [10.92.16.0/21]
    certificates:
      - name: electrs
        names: [electrs.home-mainnet.bcm, 10.92.17.12]
      - name: wallet
        usage: [client]
  register: authority
"""

RETURN = r"""
certificates:
  description: The certificates, in the order of the options. In check mode, those that are there.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name here.
      type: str
    certificate:
      description: The certificate, as PEM.
      type: str
    chain:
      description: The certificate and all above it but the root, as PEM.
      type: str
    serial:
      description: Its serial, in hexadecimal.
      type: str
    fingerprint:
      description: SHA-256 of the certificate.
      type: str
    not_after:
      description: When it ends.
      type: str
    key:
      description: The private key, as PEM, if O(return_keys) and it was made here.
      type: str
    pkcs12:
      description: The PKCS#12, in Base64, if O(return_keys) and it was asked for.
      type: str
    password:
      description: The password of it.
      type: str
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
crl:
  description: The revocation lists of all that may sign, as PEM.
  returned: success
  type: str
lists_end:
  description: When the first of these lists ends, after which servers refuse clients. Empty without a list.
  returned: success
  type: str
confirmations:
  description: What the root key signs, in order, and a device asks to confirm. In check mode, what it would ask.
  returned: success
  type: list
  elements: str
  sample: ["root g1", "inter g1", "crl g1"]
signed:
  description: What the root key signed, as the device shows it, one confirmation for each.
  returned: success
  type: list
  elements: str
  sample: ["root g1 3f9a11c2", "inter g1 81b3c0de", "crl g1 09aa17f2"]
path:
  description: The file with all that is public. Private keys are in C(CHAIN.keys.json) beside it.
  returned: success
  type: str
"""
