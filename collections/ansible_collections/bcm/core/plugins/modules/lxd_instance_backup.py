#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_instance_backup
short_description: Manage backups of LXD instances
version_added: 0.1.0
description:
  - Takes backups of instances of LXD or Incus, and writes them to files.
  - The option C(source) of M(bcm.core.lxd_instance) makes an instance of such a file.
  - A backup holds the root disk of the instance. Custom volumes are not in it.
  - Needs the API extension C(container_backup).
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
options:
  name:
    description: The name of the instance backup.
    type: str
    required: true
  state:
    description: Whether the instance backup should exist.
    type: str
    choices: [present, absent]
    default: present
  instance:
    description: The instance.
    type: str
    required: true
  path:
    description:
      - The file of the controller to which the backup is written, readable for its owner alone. Its folder must exist.
      - The file has the time of the backup. If it is missing, or has another time, it is written again.
    type: path
  expires_at:
    description: When the server deletes it, as C(2026-12-31T00:00:00Z). Cannot be changed.
    type: str
  instance_only:
    description: Whether a new backup leaves out the snapshots of the instance.
    type: bool
  optimized_storage:
    description: Whether a new backup has the format of the storage driver. It is smaller then, and can be imported
      only into a storage pool of the same driver.
    type: bool
  compression_algorithm:
    description: How a new backup is compressed, for example V(zstd) or V(none). The default is the server's.
    type: str
  deadline:
    description: Seconds within which each operation has to finish.
    type: float
    default: 900.0
"""

EXAMPLES = r"""
- name: Back an instance up
  bcm.core.lxd_instance_backup:
    instance: web
    name: before-the-update
    instance_only: true
    path: /srv/backups/web.tar.gz

- name: Make another one of it
  bcm.core.lxd_instance:
    name: web2
    source: {backup: /srv/backups/web.tar.gz}
    state: started
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create, export]
resource:
  description: The instance backup as the API returns it, after the change; in check mode, before it. Null if it
    does not exist.
  returned: always
  type: dict
"""
