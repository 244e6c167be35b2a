#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: onion_service
short_description: Create, publish and remove onion services
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Creates the keys of version 3 onion services on the controller and keeps them there, so that a lost instance gets
    its addresses back with the next run.
  - Writes them into the instance of tor, has tor reload its configuration if something changed, and waits until tor has
    uploaded the descriptors of all new or changed services.
  - A service whose proof of work, ports or limits changed is removed for a moment first; a new client does not need
    that.
  - Services that are not in the list are not changed, unless the list is O(exclusive).
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.onion
  - bcm.core.onion.deadline
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
options:
  exclusive:
    description:
      - Whether services that are not in the list are removed. Their keys are kept, so they have the same addresses when
        they are in the list again.
    type: bool
    default: false
  known:
    description:
      - Names of services that already have keys, such as those that the endpoint remembers. If one of O(services) is
        among them and its key is missing, the module fails instead of creating another key.
    type: list
    elements: str
    default: []
  network:
    description:
      - Whether tor uses the network, if that is known. Without it, tor is asked if something depends on that.
    type: bool
  publish:
    description:
      - Whether to write them into the instance of tor. With V(false), keys are only created and kept, so that addresses
        are known before anything runs.
    type: bool
    default: true
  services:
    description: The services.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Its name here. It is not published.
        type: str
        required: true
      state:
        description: Whether it should exist. V(absent) also deletes its key, and its address is lost for good.
        type: str
        choices: [present, absent]
        default: present
      ports:
        description: Its ports. It needs at least one.
        type: list
        elements: dict
        suboptions:
          port:
            description: The port at the onion address.
            type: int
            required: true
          targets:
            description:
              - The targets of its connections, C(address:port) or C(unix:/path). If there are several, each connection
                goes to one of them at random.
            type: list
            elements: str
            required: true
      authorization:
        description:
          - Whether only clients of M(bcm.core.onion_client) reach it. Without one, it cannot be reached.
        type: bool
        default: true
      pow:
        description: Whether clients need proof of work while the service is under load.
        type: bool
        default: false
      intro_defense:
        description: Whether introduction points limit the number of clients per second.
        type: bool
        default: false
      max_streams:
        description: How many connections a client's circuit may have before it is closed; V(0) for no limit.
        type: int
        default: 0
      key:
        description:
          - An existing key, as the file C(hs_ed25519_secret_key) of tor in Base64, or as C(ED25519-V3:…). Without it,
            a new key is created.
        type: str
      address:
        description: The address that it must have. Without it, the address of its key.
        type: str
notes:
  - torrc has to have the line C(%include /etc/tor/onions.d/*.conf), as the role C(tor) writes it.
  - While tor does not use the network, nothing is published. The first run after it does waits for the descriptors.
seealso:
  - module: bcm.core.onion_client
  - module: bcm.core.onion_info
"""

EXAMPLES = r"""
- name: Publish an Electrum server for clients with a key, and a public page
  bcm.core.onion_service:
    chain: mainnet
    project: bcm-home-mainnet
    services:
      - name: electrs
        ports: [{port: 50002, targets: ["10.92.17.12:50002"]}]
      - name: page
        authorization: false
        pow: true
        ports: [{port: 80, targets: ["10.92.17.20:80", "10.92.17.21:80"]}]
  register: onions
"""

RETURN = r"""
addresses:
  description:
    - The onion addresses of the services that should exist, by service. In check mode a missing key is not kept, so the
      later address is another one.
  returned: success
  type: dict
published:
  description: The services whose descriptors were uploaded in this run.
  returned: success
  type: list
  elements: str
network:
  description: Whether tor uses the network. Null if tor was not asked, because there was nothing to do.
  returned: success
  type: bool
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
