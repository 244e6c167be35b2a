#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_instance
short_description: Manage LXD instances
version_added: 0.1.0
description:
  - Creates, changes, starts, stops, replaces and deletes containers and virtual machines of LXD or Incus.
  - Stopping is graceful unless O(force_stop) says otherwise.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
  - bcm.core.resource
  - bcm.core.resource.devices
attributes:
  idempotent:
    support: partial
    details:
      - O(state=restarted) always restarts.
options:
  name:
    description: The name of the instance.
    type: str
    required: true
  state:
    description:
      - V(present) means that it exists, whether it runs or not. V(restarted) always restarts it.
      - With V(started), a container that runs is restarted if it was started with other settings than those given, of
        those that take effect at a start only, whoever changed them meanwhile; also if what it was started with is not
        known, because something else started it first. C(user.bcm.started) of the instance keeps what it was started
        with. It is restarted, too, if it is not connected to its networks any more.
    type: str
    choices: [present, started, stopped, restarted, absent]
    default: present
  image:
    description: Alias or fingerprint of the image a new instance is made from.
    type: str
  type:
    description: What a new instance is. The server's default if not given.
    type: str
    choices: [container, virtual-machine]
  profiles:
    description: Profiles, in the order in which they apply. Left alone if not given.
    type: list
    elements: str
  ephemeral:
    description: Whether it is deleted when it stops.
    type: bool
  replace:
    description:
      - Replace it when it was made from another image than O(image), or its root disk lies in another storage pool.
        Custom volumes are not touched.
      - The former instance is stopped, called by its name with C(-replaced) at the end, and deleted when the new one
        exists, and with O(state=started) runs. If that fails, it is back as it was.
    type: bool
    default: false
  force_stop:
    description: Stop it at once, as by pulling the plug.
    type: bool
    default: false
  wait_for:
    description: What is waited for with O(state=started) or O(state=restarted); V(address) is a global IP address.
    type: str
    choices: [none, address]
    default: none
  deadline:
    description: Seconds until each operation has to be done.
    type: float
    default: 120.0
"""

EXAMPLES = r"""
- name: An instance that runs and has an address
  bcm.core.lxd_instance:
    project: bcm-home-regtest
    name: tor
    image: bcm/tor
    state: started
    wait_for: address
    devices:
      root:
        type: disk
        pool: default
        path: /
      eth0:
        type: nic
        network: home-r-net
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create, start]
resource:
  description: The instance as the API gives it, after the change. In check mode as it is before it. None if it does not
    exist.
  returned: always
  type: dict
"""
