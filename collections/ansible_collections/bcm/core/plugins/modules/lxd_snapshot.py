#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_snapshot
short_description: Manage snapshots of LXD instances
version_added: 0.1.0
description:
  - Takes, restores and deletes snapshots of instances.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
attributes:
  idempotent:
    support: partial
    details:
      - O(state=restored) always restores.
options:
  name:
    description: The name of the snapshot.
    type: str
    required: true
  instance:
    description: The instance.
    type: str
    required: true
  state:
    description: V(restored) restores the instance from the snapshot, whatever was done since; it always counts as a
      change.
    type: str
    choices: [present, restored, absent]
    default: present
  stateful:
    description: Whether a new snapshot includes the memory of the running instance.
    type: bool
  expires_at:
    description: When the server deletes it, as C(2026-12-31T00:00:00Z).
    type: str
  deadline:
    description: Seconds within which each operation has to finish.
    type: float
    default: 120.0
"""

EXAMPLES = r"""
- name: Take a snapshot before a change
  bcm.core.lxd_snapshot:
    project: bcm-home-regtest
    instance: bitcoind
    name: before
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be done.
  returned: always
  type: list
  elements: str
  sample: [create]
resource:
  description: The snapshot as the API returns it, after the change; in check mode, before it. Null if it does not
    exist.
  returned: always
  type: dict
"""
