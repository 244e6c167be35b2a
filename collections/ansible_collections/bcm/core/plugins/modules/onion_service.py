#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: onion_service
short_description: Have onion services
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Makes the keys of version 3 onion services on the controller and keeps them there, so that an instance that is lost
    gets its addresses back with the next run.
  - Writes them into the instance of tor, has tor reload its configuration if something changed, and waits until tor
    has uploaded the descriptors of all services that are new or different.
  - A service that changed otherwise than by a client, by proof of work, by its ports or limits, is taken away for a
    moment before.
  - Services that are not in the list stay as they are, unless the list is O(exclusive).
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.onion
  - bcm.core.onion.deadline
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
options:
  exclusive:
    description:
      - Whether services that are not in the list are taken away. Their keys are kept, and with them their addresses,
        for when they are in the list again.
    type: bool
    default: false
  known:
    description:
      - Names of services that have keys already, such as those that the endpoint remembers. If one of O(services) is
        among them and its key is gone, it gets no other one, which is an error.
    type: list
    elements: str
    default: []
  publish:
    description:
      - Whether the instance of tor is given them. Without it keys are made and kept, so that addresses are known before
        anything runs.
    type: bool
    default: true
  services:
    description: The services.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: What it is called here. Nobody outside sees the name.
        type: str
        required: true
      state:
        description: Whether it is to be. With V(absent) its key is removed as well, and its address is lost for good.
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
              - Where its connections go, C(address:port) or C(unix:/path). If there are several, each connection goes
                to one of them at random.
            type: list
            elements: str
            required: true
      authorization:
        description:
          - Whether only clients of M(bcm.core.onion_client) reach it. As long as there is none, nobody does.
        type: bool
        default: true
      pow:
        description: Whether clients have to prove work while the service is under load.
        type: bool
        default: false
      intro_defense:
        description: Whether introduction points limit how many clients come in a second.
        type: bool
        default: false
      max_streams:
        description: How many connections a client's circuit may have before it is closed, V(0) for any number.
        type: int
        default: 0
      key:
        description:
          - A key to bring along, a file C(hs_ed25519_secret_key) of tor in Base64, or C(ED25519-V3:) and what follows.
            Without it, one is made.
        type: str
      address:
        description: The address it has to have. Without it, that of its key.
        type: str
notes:
  - torrc has to have the line C(%include /etc/tor/onions.d/*.conf), as the role C(tor) writes it.
  - If tor does not use the network, nothing is published. It is proved with the next run once tor does.
seealso:
  - module: bcm.core.onion_client
  - module: bcm.core.onion_info
"""

EXAMPLES = r"""
- name: An Electrum server for those with a key, and a page for everybody
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
    - The onion addresses by service, of those that are to be. In check mode, a key that would have to be made is not
      kept, so the address is another one later.
  returned: success
  type: dict
published:
  description: The services whose descriptors were uploaded just now.
  returned: success
  type: list
  elements: str
network:
  description: Whether tor uses the network. Null if it was not asked, for nothing was to be done.
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
