#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_network_zone_record
short_description: Manage records of network zones of LXD
version_added: 0.1.0
description:
  - Creates, changes and deletes records of network zones of LXD or Incus, beside those that the server makes itself of
    its instances.
  - Needs the API extension C(network_dns_records).
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
    description: The name of the record, relative to the zone.
    type: str
    required: true
  state:
    description: Whether the network zone record should exist.
    type: str
    choices: [present, absent]
    default: present
  zone:
    description: The network zone.
    type: str
    required: true
  entries:
    description: The entries, each a mapping as in LXD's API, with C(type), C(value) and, if they are to be kept for a
      time other than the server's, C(ttl) in seconds. If given, they replace all entries; their order has no meaning.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: An address of a machine that is no instance
  bcm.core.lxd_network_zone_record:
    zone: lab.example
    name: printer
    entries:
      - {type: A, value: 192.0.2.20, ttl: 300}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The network zone record as the API returns it, after the change; in check mode, before it. Null if it
    does not exist.
  returned: always
  type: dict
"""
