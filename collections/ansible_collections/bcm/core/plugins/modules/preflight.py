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
  - Checks, before anything is changed, that the endpoint answers and lets us in, and that it can do what a data center
    needs.
  - If instances shall come up, checks that the storage pool exists and has room for the volumes and instances that are
    still to be made, and that the subnets of networks that are still to be made are free on the host.
  - Tries, from an instance that runs, whether the host still has the firewall rules that the server made there, since
    another program may have flushed them.
extends_documentation_fragment:
  - bcm.core.attributes
  - bcm.core.attributes.reads
  - bcm.core.lxd.endpoint
options:
  plan:
    description: A plan of M(bcm.core.plan).
    type: dict
    required: true
seealso:
  - module: bcm.core.plan
"""

EXAMPLES = r"""
- name: Check the endpoint
  bcm.core.preflight:
    plan: "{{ planned.plan }}"
"""

RETURN = r"""
server:
  description: Name and version of the server.
  returned: success
  type: dict
  sample: {name: lxd, version: "5.0.2"}
lost:
  description: The networks whose firewall rules are no more on the host. M(bcm.core.lxd_network) puts them back.
  returned: success
  type: list
  elements: str
  sample: []
pool:
  description: Name of the storage pool, and of its bytes how many are free and how many will be needed at most.
  returned: for plans that bring instances up
  type: dict
  sample: {name: default, free: 9663676416, needed: 6442450944}
"""
