#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_network_load_balancer
short_description: Manage network load balancers of LXD
version_added: 0.1.0
description:
  - Creates, changes and deletes network load balancers of LXD or Incus. They exist on OVN networks.
  - Needs the API extension C(network_load_balancer).
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
    description: The address at which it listens, by which the load balancer is known.
    type: str
    required: true
  state:
    description: Whether the network load balancer should exist.
    type: str
    choices: [present, absent]
    default: present
  network:
    description: The network.
    type: str
    required: true
  backends:
    description: Where connections go, each a mapping as in LXD's API, with C(name), C(target_address) and, unless the
      port stays the same, C(target_port). If given, they replace all backends; their order has no meaning.
    type: list
    elements: dict
  ports:
    description: The ports that are balanced, each a mapping as in LXD's API, with C(listen_port) and a list
      C(target_backend) of the names of backends; C(protocol) is V(tcp) unless it is given. If given, they replace all
      ports; their order has no meaning.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Share the connections to one address between two instances
  bcm.core.lxd_network_load_balancer:
    network: ovn0
    listen_address: 192.0.2.10
    backends:
      - {name: one, target_address: 10.90.0.5}
      - {name: two, target_address: 10.90.0.6}
    ports:
      - {listen_port: "443", target_backend: [one, two]}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The network load balancer as the API returns it, after the change; in check mode, before it. Null if it
    does not exist.
  returned: always
  type: dict
"""
