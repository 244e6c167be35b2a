#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: connections
short_description: End connections that no rule of a plan allows
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Looks at the connections of instances, and ends those that no access list of a plan allows any more. The lists alone
    decide on the first packet of a connection, so that it would go on until one side closes it.
  - An instance that does not answer does not fail the task; RV(faults) says why it could not be looked at.
extends_documentation_fragment:
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.lxd
attributes:
  diff_mode:
    support: none
options:
  plan:
    description: The C(outline) of a plan, or the C(plan) itself, as M(bcm.core.plan) returns them.
    type: dict
    required: true
  instances:
    description: Names of the instances of the plan that run.
    type: list
    elements: str
    required: true
seealso:
  - module: bcm.core.lxd_network_acl
  - module: bcm.core.plan
"""

EXAMPLES = r"""
- name: End connections that no rule allows
  bcm.core.connections:
    project: "{{ planned.plan.project }}"
    plan: "{{ planned.outline }}"
    instances: [tor, bitcoind]
"""

RETURN = r"""
ended:
  description: The connections that were ended, of each instance that had some. In check mode, those that would be.
  returned: success
  type: dict
  sample: {bitcoind: ["tcp 10.80.16.11:40112 to 203.0.113.7:8333"]}
faults:
  description: Why instances could not be looked at.
  returned: success
  type: dict
  sample: {electrs: "Instance electrs: it is not running"}
"""
