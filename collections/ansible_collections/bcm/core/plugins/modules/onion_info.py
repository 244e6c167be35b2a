#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: onion_info
short_description: Tell which onion services there are
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Tells what M(bcm.core.onion_service) and M(bcm.core.onion_client) have set up. Keys are not returned.
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
- name: What there is
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
      description: What it is called here.
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
      description: The names of those who do.
      type: list
      elements: str
    pow:
      description: Whether clients have to prove work under load.
      type: bool
    intro_defense:
      description: Whether introduction points limit how many clients come in a second.
      type: bool
    max_streams:
      description: How many connections a client's circuit may have, V(0) for any number.
      type: int
    parked:
      description: Whether only its key is kept, and tor does not have it.
      type: bool
    published:
      description: Whether tor in the instance was seen to publish it as it is.
      type: bool
path:
  description: The file with the keys.
  returned: success
  type: str
"""
