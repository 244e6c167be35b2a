#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_network
short_description: Manage LXD networks
version_added: 0.1.0
description:
  - Creates, changes and deletes managed networks of LXD or Incus.
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
    description: The name of the network.
    type: str
    required: true
  state:
    description:
      - Whether the network should exist.
      - V(reloaded) also sets it up again on its host, after another program has flushed the firewall rules that the
        server created there. This restores the rules for the devices of its instances, too. It always counts as a
        change.
    type: str
    choices: [present, reloaded, absent]
    default: present
  type:
    description: The type of a new network, for example V(bridge). The default is the server's.
    type: str
"""

EXAMPLES = r"""
- name: Create a network without a route to the outside
  bcm.core.lxd_network:
    name: home-r-net
    config:
      ipv4.address: 10.90.8.1/21
      ipv4.nat: false
      ipv6.address: none
      security.acls: home-r-net
      security.acls.default.egress.action: reject

- name: Restore the firewall rules of the network
  bcm.core.lxd_network:
    name: home-r-net
    state: reloaded
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The network as the API returns it, after the change; in check mode, before it. Null if it does not exist.
  returned: always
  type: dict
"""
