#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check an endpoint against a plan
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Checks, before anything is changed, that the endpoint answers and accepts us, and that it supports what a data
    center needs.
  - If instances are to be started, checks that the storage pool exists and has room for the missing volumes and
    instances, and that the subnets of the missing networks are free on the host.
  - Tests from a running instance whether the host still has the firewall rules that the server created there, since
    another program may have flushed them.
extends_documentation_fragment:
  - bcm.core.attributes
  - bcm.core.attributes.reads
  - bcm.core.lxd.endpoint
options:
  plan:
    description: The C(outline) of a plan, or the C(plan) itself, as M(bcm.core.plan) returns them.
    type: dict
    required: true
seealso:
  - module: bcm.core.plan
"""

EXAMPLES = r"""
- name: Check the endpoint
  bcm.core.preflight:
    plan: "{{ planned.outline }}"
"""

RETURN = r"""
server:
  description: Name and version of the server.
  returned: success
  type: dict
  sample: {name: lxd, version: "5.0.2"}
lost:
  description: The networks whose firewall rules are missing on the host. M(bcm.core.lxd_network) restores them.
  returned: success
  type: list
  elements: str
  sample: []
pool:
  description: Name of the storage pool, its free bytes, and how many bytes will be needed at most.
  returned: for plans that start instances
  type: dict
  sample: {name: default, free: 9663676416, needed: 6442450944}
"""
