#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_certificate
short_description: Issue and renew certificates of servers and clients
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Issues what is missing, revoked or different, and what has only a third of its time left. The others stay.
  - A new key is made with each, and kept beside the secrets, unless its owner sends a CSR.
extends_documentation_fragment:
  - bcm.core.ca
  - bcm.core.certificates
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
options:
  certificates:
    required: true
  days:
    description: How long new ones are good for.
    type: int
    default: 30
  return_keys:
    description: Return private keys. The result is then hidden from logs.
    type: bool
    default: false
seealso:
  - module: bcm.core.ca_authority
  - module: bcm.core.ca_intermediate
  - module: bcm.core.ca_crl
"""

EXAMPLES = r"""
- name: Certificates of two services and a client
  bcm.core.ca_certificate:
    chain: mainnet
    domain: home-mainnet.bcm
    return_keys: true
    certificates:
      - name: electrs
        names: [electrs.home-mainnet.bcm, 10.92.17.12]
      - name: lxd
        names: [lxd.home-mainnet.bcm]
        csr: "{{ lxd_csr.stdout }}"
      - name: phone
        usage: [client]
        pkcs12: true
  register: certificates
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
trust:
  description: The roots to trust, as PEM. After a rotation these are two for a while.
  returned: success
  type: str
confirmations:
  description: What the root key signs, in order, and a device asks to confirm. In check mode, what it would ask.
  returned: success
  type: list
  elements: str
  sample: ["leaf g1"]
signed:
  description: What the root key signed, as the device shows it, one confirmation for each.
  returned: success
  type: list
  elements: str
  sample: ["leaf g1 5c1d0a77"]
path:
  description: The file with all that is public. Private keys are in C(CHAIN.keys.json) beside it.
  returned: success
  type: str
"""
