#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_storage_pool
short_description: Manage LXD storage pools
version_added: 0.1.0
description:
  - Creates, changes and deletes storage pools of LXD or Incus.
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
    description: The name of the storage pool.
    type: str
    required: true
  state:
    description: Whether the pool should exist. LXD deletes only empty pools.
    type: str
    choices: [present, absent]
    default: present
  driver:
    description: The driver of a new pool, for example V(btrfs), V(zfs) or V(dir).
    type: str
"""

EXAMPLES = r"""
- name: Create a pool in a file of 40 GiB
  bcm.core.lxd_storage_pool:
    name: default
    driver: btrfs
    config:
      size: 40GiB
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The storage pool as the API returns it, after the change; in check mode, before it. Null if it does not
    exist.
  returned: always
  type: dict
"""
