#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_network_forward
short_description: Manage network forwards of LXD
version_added: 0.1.0
description:
  - Creates, changes and deletes network forwards of LXD or Incus, which send what comes to an address on to instances.
  - Needs the API extension C(network_forward).
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
  - bcm.core.resource
options:
  listen_address:
    description: The address of the host that is forwarded, by which the forward is known.
    type: str
    required: true
  state:
    description: Whether the network forward should exist.
    type: str
    choices: [present, absent]
    default: present
  network:
    description: The network.
    type: str
    required: true
  ports:
    description:
      - The ports that are forwarded. If given, they replace all ports; their order has no meaning.
      - Each is a mapping as in LXD's API, with C(listen_port), C(target_address) and, unless the port stays the same,
        C(target_port); C(protocol) is V(tcp) unless it is given. What comes to other ports goes to C(target_address)
        of O(config), if that is set.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Send what comes to port 8443 of an address of the host to an instance
  bcm.core.lxd_network_forward:
    network: lab
    listen_address: 192.0.2.10
    ports:
      - {listen_port: "8443", target_address: 10.90.0.5, target_port: "443"}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The network forward as the API returns it, after the change; in check mode, before it. Null if it
    does not exist.
  returned: always
  type: dict
"""
