# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the targets of backups."""

from __future__ import annotations

DOCUMENTATION = r"""
name: backup_target_faults
short_description: List the faults in targets of backups
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Checks the targets to which the stack backups copies, as its variable C(backups_targets) has them.
  - Keys are not shown.
options:
  _input:
    description: The targets, by name.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse targets that cannot be used
  ansible.builtin.assert:
    that: backups_targets | bcm.core.backup_target_faults == []
"""

RETURN = r"""
_value:
  description: The faults, as sentences; empty if there are none.
  type: list
  elements: str
  sample: ["the inventory: backups_targets.box.user is missing: add it"]
"""

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._datacenter.backup_targets import faults


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., list[str]]]:
        return {"backup_target_faults": faults}
