#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_info
short_description: Read objects of an LXD server
version_added: 0.1.0
description:
  - Reads one object, or all objects, of a kind.
  - For a project or an object that does not exist, the list is empty.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reads
  - bcm.core.attributes.group_lxd
options:
  kind:
    description: The kind of the objects.
    type: str
    required: true
    choices:
      - certificate
      - cluster_group
      - cluster_member
      - image
      - instance
      - instance_backup
      - network
      - network_acl
      - network_forward
      - network_load_balancer
      - network_peer
      - network_zone
      - network_zone_record
      - operation
      - profile
      - project
      - server
      - snapshot
      - storage_bucket
      - storage_pool
      - storage_volume
      - warning
  name:
    description: Only the object of this name, fingerprint, address or UUID.
    type: str
  pool:
    description: The storage pool whose custom volumes or buckets are read. Required for these kinds.
    type: str
  instance:
    description: The instance whose snapshots or backups are read. Required for these kinds.
    type: str
  network:
    description: The network whose forwards, load balancers or peers are read. Required for these kinds.
    type: str
  zone:
    description: The network zone whose records are read. Required for O(kind=network_zone_record).
    type: str
"""

EXAMPLES = r"""
- name: All instances of a project
  bcm.core.lxd_info:
    kind: instance
    project: bcm-home-regtest
  register: found
"""

RETURN = r"""
resources:
  description: The objects as the API returns them.
  returned: always
  type: list
  elements: dict
"""
