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
    description: The storage pool it lies in.
    type: str
    required: true
  state:
    description: Whether the volume is to exist. V(absent) deletes what is on it.
    type: str
    choices: [present, absent]
    default: present
  content_type:
    description: The content of a new volume.
    type: str
    choices: [filesystem, block]
  source:
    description:
      - What is on a new volume. Without it, a new volume is empty.
      - The copy gets its name when it is complete, and the former volume C(user.bcm.moved_to) with the name of the pool
        then. It is not deleted.
      - Stop what uses the former volume first.
    type: dict
    suboptions:
      pool:
        description: The storage pool in which the volume of the same name lies that is copied.
        type: str
        required: true
  deadline:
    description: Seconds until each operation has to be done.
    type: float
    default: 120.0
"""

EXAMPLES = r"""
- name: A volume for blocks
  bcm.core.lxd_storage_volume:
    project: bcm-home-regtest
    pool: default
    name: bitcoind-data
    config:
      size: 20GiB

- name: The same volume in another pool
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
  description: The volume as the API gives it, after the change. In check mode as it is before it. None if it does not
    exist.
  returned: always
  type: dict
"""
