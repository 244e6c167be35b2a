#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_storage_bucket
short_description: Manage storage buckets of LXD
version_added: 0.1.0
description:
  - Creates, changes and deletes storage buckets of LXD or Incus.
  - Needs the API extension C(storage_buckets), which LXD 5.0 does not have.
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
    description: The name of the storage bucket.
    type: str
    required: true
  state:
    description: Whether the storage bucket should exist.
    type: str
    choices: [present, absent]
    default: present
  pool:
    description: The storage pool.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: A bucket of at most 10 GiB
  bcm.core.lxd_storage_bucket:
    pool: default
    name: copies
    config: {size: 10GiB}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The storage bucket as the API returns it, after the change; in check mode, before it. Null if it does not
    exist.
  returned: always
  type: dict
"""
