#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_warning
short_description: Acknowledge or delete warnings of LXD
version_added: 0.1.0
description:
  - Acknowledges or deletes warnings of LXD or Incus. The server creates them; M(bcm.core.lxd_info) lists them.
  - Needs the API extension C(warnings).
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
options:
  uuid:
    description: The UUID of the warning.
    type: str
    required: true
  state:
    description: The status of the warning, or V(absent) to delete it. The server warns again if the cause returns.
    type: str
    choices: [new, acknowledged, absent]
    default: acknowledged
"""

EXAMPLES = r"""
- name: Read the warnings
  bcm.core.lxd_info:
    kind: warning
  register: found

- name: Acknowledge those that AppArmor is missing
  bcm.core.lxd_warning:
    uuid: "{{ item.uuid }}"
  loop: "{{ found.resources | selectattr('type', 'eq', 'AppArmor support has been disabled') }}"
  loop_control: {label: "{{ item.type }}"}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [update]
resource:
  description: The warning as the API returns it, after the change; in check mode, before it. Null if it does not
    exist.
  returned: always
  type: dict
"""
