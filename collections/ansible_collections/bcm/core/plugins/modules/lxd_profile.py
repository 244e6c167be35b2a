#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_profile
short_description: Manage LXD profiles
version_added: 0.1.0
description:
  - Creates, changes and deletes profiles of LXD or Incus.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
  - bcm.core.resource
  - bcm.core.resource.devices
options:
  name:
    description: The name of the profile.
    type: str
    required: true
  state:
    description: Whether the profile should exist.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Create a profile with a root disk
  bcm.core.lxd_profile:
    name: small
    config:
      limits.memory: 512MiB
    devices:
      root:
        type: disk
        pool: default
        path: /
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The profile as the API returns it, after the change; in check mode, before it. Null if it does not exist.
  returned: always
  type: dict
"""
