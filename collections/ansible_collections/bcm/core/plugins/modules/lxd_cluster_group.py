#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_cluster_group
short_description: Manage cluster groups of LXD
version_added: 0.1.0
description:
  - Creates, changes and deletes cluster groups of LXD or Incus.
  - Needs the API extension C(clustering_groups), and a server that is clustered.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
options:
  name:
    description: The name of the cluster group.
    type: str
    required: true
  state:
    description: Whether the cluster group should exist.
    type: str
    choices: [present, absent]
    default: present
  description:
    description: Free text. Not changed if not given.
    type: str
  members:
    description: The members of the cluster that belong to it. If given, they replace all members; their order has no
      meaning. LXD does not take a member out of its last group.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: The members with much disk
  bcm.core.lxd_cluster_group:
    name: large
    members: [box2, box3]
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The cluster group as the API returns it, after the change; in check mode, before it. Null if it does not
    exist.
  returned: always
  type: dict
"""
