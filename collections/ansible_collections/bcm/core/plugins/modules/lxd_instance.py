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
      - V(present) means that it exists, running or not. V(restarted) always restarts it.
      - With V(started), a running container is restarted if it was started with settings other than those given, among
        those that take effect only at a start, even if they were changed meanwhile; also if the settings it was
        started with are unknown, because something else started it. C(user.bcm.started) of the instance records them.
        It is also restarted if it is no longer connected to its networks.
    type: str
    choices: [present, started, stopped, restarted, absent]
    default: present
  image:
    description: Alias or fingerprint of the image for a new instance. Excludes O(source).
    type: str
  source:
    description: What a new instance is made of instead of an image. What is given of its other options then replaces
      what it has from there.
    type: dict
    suboptions:
      instance:
        description: The instance to copy, without its snapshots.
        type: str
      snapshot:
        description: The snapshot of O(source.instance) to copy.
        type: str
      project:
        description: The project of O(source.instance), if it is another one.
        type: str
      backup:
        description: A file of the controller, as M(bcm.core.lxd_instance_backup) writes it.
        type: path
  type:
    description: The type of a new instance. The default is the server's.
    type: str
    choices: [container, virtual-machine]
  profiles:
    description: Profiles, in the order in which they apply. Not changed if not given.
    type: list
    elements: str
  ephemeral:
    description: Whether it is deleted when it stops.
    type: bool
  replace:
    description:
      - Replace it when it was created from an image other than O(image), or its root disk is in another storage pool.
        Custom volumes are not touched.
      - The former instance is stopped, renamed with the suffix C(-replaced), and deleted when the new one exists and,
        with O(state=started), runs. If that fails, the former instance is put back.
    type: bool
    default: false
  force_stop:
    description: Stop it immediately, without a shutdown.
    type: bool
    default: false
  wait_for:
    description: What to wait for with O(state=started) or O(state=restarted); V(address) is a global IP address.
    type: str
    choices: [none, address]
    default: none
  deadline:
    description: Seconds within which each operation has to finish.
    type: float
    default: 120.0
"""

EXAMPLES = r"""
- name: Start an instance and wait for its address
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

- name: Try something with a copy of an instance
  bcm.core.lxd_instance:
    name: web-try
    source: {instance: web, snapshot: before}
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create, start]
resource:
  description: The instance as the API returns it, after the change; in check mode, before it. Null if it does not
    exist.
  returned: always
  type: dict
"""
