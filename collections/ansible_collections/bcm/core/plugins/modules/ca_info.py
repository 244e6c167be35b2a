#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_info
short_description: Return what the authority of a data center has issued
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Reads what is public. Neither a device nor a password is needed.
extends_documentation_fragment:
  - bcm.core.ca
  - bcm.core.attributes
  - bcm.core.attributes.reads
options: {}
seealso:
  - module: bcm.core.ca_certificate
"""

EXAMPLES = r"""
- name: List the onion services
  bcm.core.ca_info:
    chain: mainnet
    domain: home-mainnet.bcm
  register: authority
"""

RETURN = r"""
domain:
  description: The domain of the data center.
  returned: success
  type: str
provider:
  description: Where the root key is.
  returned: success
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
certificates:
  description: All certificates of servers and clients.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name here.
      type: str
    names:
      description: Its host names and addresses.
      type: list
      elements: str
    usage:
      description: What it is for.
      type: list
      elements: str
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
trust:
  description: The roots to trust, as PEM. After a rotation these are two for a while.
  returned: success
  type: str
crl:
  description: The revocation lists of all roots and intermediates, as PEM.
  returned: success
  type: str
lists_end:
  description: When the first of these lists ends, after which servers refuse clients. Empty without a list.
  returned: success
  type: str
path:
  description: The file with all that is public. Private keys are in C(CHAIN.keys.json) beside it.
  returned: success
  type: str
"""
