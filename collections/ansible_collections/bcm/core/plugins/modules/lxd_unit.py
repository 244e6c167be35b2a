#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_unit
short_description: systemd units in LXD instances, with the files they run on
version_added: 0.1.0
description:
  - Writes files as M(bcm.core.lxd_file) does, makes systemd read unit files that changed, then starts, restarts,
    reloads or stops units.
  - A unit that was started leaves a stamp in C(/var/lib/bcm/units) that says with which O(files) it was, and which
    versions of them. A unit whose stamp is another one is restarted. So it does not matter who wrote the files and
    when. What was changed by hand and taken up by the unit is undone in the unit, too, and a run that was killed
    between writing and restarting is healed by the next.
  - A unit whose unit file is among O(files) is defined by them alone. Drop-ins that others have added to it below
    C(/etc/systemd), C(/run/systemd) and C(/usr/local/lib/systemd) are removed; those of packages and generators stay.
  - When a unit does not start, the end of its journal is in the message.
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
      - A unit that ends by itself, and so is not active any more, is started again.
options:
  instance:
    description: The name of the instance, which has to run.
    type: str
    required: true
  units:
    description: The units, in the order in which they are started or stopped. There may be none.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The unit; a service if the name has no suffix.
        type: str
        required: true
      state:
        description: Whether it is to run.
        type: str
        choices: [started, stopped]
        default: started
      enabled:
        description: Whether it starts with the instance. If not given, V(true) for one that is to run, and left alone
          otherwise.
        type: bool
      action:
        description:
          - What to do with a unit that runs when O(files) are not those it was started with.
          - If unit files are among what changed, it is restarted in any case.
        type: str
        choices: [restart, reload]
        default: restart
  deadline:
    description: Seconds that each of them has to start or to stop.
    type: float
    default: 120.0
seealso:
  - module: bcm.core.lxd_file
"""

EXAMPLES = r"""
- name: A service and what it runs on
  bcm.core.lxd_unit:
    project: bcm-home-regtest
    instance: electrs
    files:
      - path: /etc/electrs/electrs.toml
        content: "{{ lookup('ansible.builtin.template', 'electrs.toml.j2') }}"
      - path: /etc/systemd/system/electrs.service
        content: "{{ lookup('ansible.builtin.template', 'electrs.service.j2') }}"
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
  description: SHA-256 over the wanted state of all files.
  returned: success
  type: str
"""
