#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_apply
short_description: Reconcile many LXD resources at once
version_added: 0.1.0
description:
  - Takes a list of resources and brings each to its desired state, in parallel, in the order in which they depend on
    each other.
  - Reads the existing resources with one request for each kind. Writes nothing when nothing differs.
  - Writes carry the ETag of the state they were planned against, so that a concurrent change is never
    overwritten.
  - When a resource fails, everything that does not depend on it is still done.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
options:
  resources:
    description:
      - The resources, in any order. Each is a mapping with C(kind), which is the name of a module without C(lxd_), such
        as V(instance), V(network_acl) or V(storage_volume), and the options of that module, for example those of
        M(bcm.core.lxd_instance). C(project) and C(target) may be given for each; the
        defaults are O(project) and O(target).
      - C(owner) is a mapping of configuration keys and values that mark our resources. An existing
        resource without them is foreign. Changing it fails before anything is done, and it is not
        deleted.
    type: list
    elements: dict
    required: true
seealso:
  - module: bcm.core.lxd_instance
  - module: bcm.core.lxd_network
"""

EXAMPLES = r"""
- name: A network and two instances in it
  bcm.core.lxd_apply:
    resources:
      - kind: network
        name: lab
        config:
          ipv4.address: 10.90.0.1/24
          ipv6.address: none
      - kind: instance
        name: one
        image: bcm/base
        state: started
        wait_for: address
        devices: &devices
          root: {type: disk, pool: default, path: /}
          eth0: {type: nic, network: lab}
      - kind: instance
        name: two
        image: bcm/base
        state: started
        devices: *devices
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: The kind of the resource.
      type: str
    name:
      description: Its name; for a volume or a snapshot, preceded by the pool or the instance.
      type: str
    action:
      description: What was done, for example V(create), V(update), V(start) or V(delete).
      type: str
left:
  description: The resources that should be absent, and are kept because they do not have the marks of C(owner).
  returned: always
  type: list
  elements: str
resources:
  description: The resources as the API returns them after the change, by kind and name as in C(instance/tor).
  returned: always
  type: dict
"""
