#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_network_peer
short_description: Manage network peers of LXD
version_added: 0.1.0
description:
  - Creates, changes and deletes network peers of LXD or Incus, which connect two OVN networks. Both networks need one.
  - Needs the API extension C(network_peer).
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
  - bcm.core.resource
options:
  name:
    description: The name of the network peer.
    type: str
    required: true
  state:
    description: Whether the network peer should exist.
    type: str
    choices: [present, absent]
    default: present
  network:
    description: The network.
    type: str
    required: true
  target_network:
    description: The network to connect with. Required for a new peer, and cannot be changed.
    type: str
  target_project:
    description: The project of O(target_network). The default is the server's, and it cannot be changed.
    type: str
"""

EXAMPLES = r"""
- name: Connect two OVN networks, on the side of the first
  bcm.core.lxd_network_peer:
    network: ovn0
    name: to-ovn1
    target_network: ovn1
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The network peer as the API returns it, after the change; in check mode, before it. Null if it does not
    exist.
  returned: always
  type: dict
"""
