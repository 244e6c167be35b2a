#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: onion_client
short_description: Authorize clients of an onion service, and revoke them
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Creates a key for each client. Without a key, a client cannot decrypt the descriptor of the service, and so cannot
    even try to connect.
  - When a client is revoked, the service is removed for a moment, which disconnects all clients. Otherwise the revoked
    client could go on as long as the introduction points it knows exist.
  - A client that was revoked and is authorized again gets another key.
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.onion
  - bcm.core.onion.deadline
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
options:
  service:
    description: The name of a service of M(bcm.core.onion_service).
    type: str
    required: true
  clients:
    description: The names of the clients. Other clients are not changed.
    type: list
    elements: str
    required: true
  state:
    description: Whether they are authorized or revoked.
    type: str
    choices: [present, absent]
    default: present
  return_keys:
    description: Return private keys. The result is then hidden from logs.
    type: bool
    default: false
seealso:
  - module: bcm.core.onion_service
"""

EXAMPLES = r"""
- name: Authorize Alice to use the Electrum server
  bcm.core.onion_client:
    chain: mainnet
    project: bcm-home-mainnet
    service: electrs
    clients: [alice]
    return_keys: true
  register: admitted

- name: Revoke Bob's key
  bcm.core.onion_client:
    chain: mainnet
    project: bcm-home-mainnet
    service: electrs
    clients: [bob]
    state: absent
"""

RETURN = r"""
address:
  description: The onion address of the service.
  returned: success
  type: str
clients:
  description: The requested clients that are authorized. In check mode, none.
  returned: if O(return_keys)
  type: list
  elements: dict
  contains:
    name:
      description: The name of the client.
      type: str
    key:
      description: The private key, in Base32, as Tor Browser and Orbot ask for it.
      type: str
    auth_private:
      description: The content of a file C(.auth_private) in the C(ClientOnionAuthDir) of the client's tor.
      type: str
    qr:
      description: The private key as a QR code, drawn with the characters of a terminal.
      type: str
instructions:
  description: What to do with the key, for C(electrum), C(tor_browser) and C(orbot). They do not contain it.
  returned: success
  type: dict
published:
  description: The services whose descriptors were uploaded in this run.
  returned: success
  type: list
  elements: str
files:
  description: The paths in the instance that were changed, or in check mode would be.
  returned: success
  type: list
  elements: str
path:
  description: The file with the keys.
  returned: success
  type: str
"""
