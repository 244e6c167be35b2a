#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: onion_info
short_description: List onion services
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Lists what M(bcm.core.onion_service) and M(bcm.core.onion_client) have configured. Keys are not returned.
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.onion
  - bcm.core.attributes
  - bcm.core.attributes.reads
options: {}
seealso:
  - module: bcm.core.onion_service
"""

EXAMPLES = r"""
- name: List the onion services
  bcm.core.onion_info:
    chain: mainnet
    project: bcm-home-mainnet
  register: onions
"""

RETURN = r"""
services:
  description: The onion services, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name here.
      type: str
    address:
      description: Its onion address.
      type: str
    ports:
      description: Its ports, each with C(port) and C(targets).
      type: list
      elements: dict
    authorization:
      description: Whether only clients reach it.
      type: bool
    clients:
      description: The names of its clients.
      type: list
      elements: str
    pow:
      description: Whether clients need proof of work under load.
      type: bool
    intro_defense:
      description: Whether introduction points limit the number of clients per second.
      type: bool
    max_streams:
      description: How many connections a client's circuit may have; V(0) for no limit.
      type: int
    parked:
      description: Whether only its key is kept, and tor does not publish it.
      type: bool
    published:
      description: Whether tor was seen to publish it with this configuration.
      type: bool
path:
  description: The file with the keys.
  returned: success
  type: str
"""
