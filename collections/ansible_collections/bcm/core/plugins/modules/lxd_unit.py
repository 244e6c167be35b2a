#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_unit
short_description: Manage systemd units in LXD instances, with their files
version_added: 0.1.0
description:
  - Writes files as M(bcm.core.lxd_file) does, makes systemd read unit files that changed, then starts, restarts,
    reloads or stops units.
  - When a unit is started, a stamp in C(/var/lib/bcm/units) records the O(files) and their versions. A unit whose stamp
    differs is restarted. So it does not matter what wrote the files, or when. A change by hand that the unit has loaded
    is undone in the unit, too, and if a run was killed between writing and restarting, the next one completes it.
  - A unit whose unit file is among O(files) is defined by them alone. Other drop-ins for it below C(/etc/systemd),
    C(/run/systemd) and C(/usr/local/lib/systemd) are removed; those of packages and generators are kept.
  - When a unit does not start, the message contains the end of its journal.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.files
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
attributes:
  idempotent:
    details:
      - A unit that exited by itself, and so is no longer active, is started again.
options:
  instance:
    description: The name of the instance, which has to be running.
    type: str
    required: true
  units:
    description: The units, in the order in which they are started or stopped. The list may be empty.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The unit; a service if the name has no suffix.
        type: str
        required: true
      state:
        description: Whether it should be running.
        type: str
        choices: [started, stopped]
        default: started
      enabled:
        description: Whether it starts with the instance. The default is V(true) for O(units[].state=started); otherwise
          it is not changed.
        type: bool
      action:
        description:
          - What to do with a running unit when O(files) are not those it was started with.
          - If unit files changed, it is restarted in any case.
        type: str
        choices: [restart, reload]
        default: restart
  deadline:
    description:
      - Seconds within which each unit has to start or stop.
      - In the first 10 minutes after its instance has booted, a unit that systemd was starting already may fail
        meanwhile, if systemd starts it again.
    type: float
    default: 120.0
seealso:
  - module: bcm.core.lxd_file
"""

EXAMPLES = r"""
- name: Configure and start a service
  bcm.core.lxd_unit:
    project: bcm-home-regtest
    instance: electrs
    files:
      - path: /etc/electrs/electrs.toml
        content: "{{ lookup('bcm.core.template', 'electrs.toml.j2') }}"
      - path: /etc/systemd/system/electrs.service
        content: "{{ lookup('bcm.core.template', 'electrs.service.j2') }}"
    units:
      - name: electrs
"""

RETURN = r"""
files:
  description: The paths that were changed or removed, or in check mode would be.
  returned: success
  type: list
  elements: str
actions:
  description: What was done to units, or in check mode would be done.
  returned: success
  type: list
  elements: dict
  contains:
    unit:
      description: The unit, a service without its suffix.
      type: str
    action:
      description: What was done; a verb of C(systemctl).
      type: str
      sample: restart
digest:
  description: SHA-256 over the desired state of all files.
  returned: success
  type: str
"""
