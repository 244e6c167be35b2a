#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_storage_volume
short_description: Manage custom storage volumes of LXD
version_added: 0.1.0
description:
  - Creates, changes and deletes custom storage volumes of LXD or Incus.
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
    description: The name of the volume.
    type: str
    required: true
  pool:
    description: The storage pool of the volume.
    type: str
    required: true
  state:
    description: Whether the volume should exist. V(absent) deletes it with its data.
    type: str
    choices: [present, absent]
    default: present
  content_type:
    description: The content of a new volume.
    type: str
    choices: [filesystem, block]
  source:
    description:
      - The volume to copy a new volume from. Without it, a new volume is empty.
      - When the copy is complete, it gets its name, and C(user.bcm.moved_to) of the former volume the name of the new
        pool. The former volume is not deleted.
      - Stop the instances that use the former volume first.
    type: dict
    suboptions:
      pool:
        description: The storage pool of the volume to copy, which has the same name.
        type: str
        required: true
  deadline:
    description: Seconds within which each operation has to finish.
    type: float
    default: 120.0
"""

EXAMPLES = r"""
- name: Create a volume
  bcm.core.lxd_storage_volume:
    project: bcm-home-regtest
    pool: default
    name: bitcoind-data
    config:
      size: 20GiB

- name: Move the volume to another pool
  bcm.core.lxd_storage_volume:
    project: bcm-home-regtest
    pool: fast
    name: bitcoind-data
    source:
      pool: default
    deadline: 86400
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The volume as the API returns it, after the change; in check mode, before it. Null if it does not exist.
  returned: always
  type: dict
"""
