#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_network_acl
short_description: Manage LXD network ACLs
version_added: 0.1.0
description:
  - Creates, changes and deletes network ACLs of LXD or Incus.
  - Needs the API extension C(network_acl).
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
    description: The name of the network ACL.
    type: str
    required: true
  state:
    description: Whether the ACL should exist. LXD deletes only ACLs that nothing uses.
    type: str
    choices: [present, absent]
    default: present
  ingress:
    description: Rules for inbound traffic, as in LXD's API. If given, they replace all rules; their order has no
      meaning.
    type: list
    elements: dict
  egress:
    description: Rules for outbound traffic, likewise.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Allow electrs to reach only bitcoind
  bcm.core.lxd_network_acl:
    name: home-r-net
    ingress: []
    egress:
      - action: allow
        source: 10.90.8.12/32
        destination: 10.90.8.11/32
        protocol: tcp
        destination_port: "8332"
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The network ACL as the API returns it, after the change; in check mode, before it. Null if it does not
    exist.
  returned: always
  type: dict
"""
