#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_project
short_description: Manage LXD projects
version_added: 0.1.0
description:
  - Creates, changes and deletes projects of LXD or Incus.
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
    description: The name of the project.
    type: str
    required: true
  state:
    description: Whether the project should exist. LXD deletes only empty projects.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Create a project that shares images and networks with the default one
  bcm.core.lxd_project:
    name: bcm-home-regtest
    config:
      features.images: false
      features.networks: false
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The project as the API returns it, after the change; in check mode, before it. Null if it does not exist.
  returned: always
  type: dict
"""
