# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has what each task needs loaded once, before Ansible makes a process for each."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preloaded
short_description: Have filters and modules loaded once for all tasks
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Returns its input. Used in C(hosts) of the first play, it has Ansible load its own filters and tests there, and what
    tasks in instances use, and not again in the process of each task.
  - What is loaded of this collection afterwards is kept compiled, as all other modules of Python are.
options:
  _input:
    description: Any value.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Plan
  hosts: "{{ 'localhost' | bcm.core.preloaded }}"
"""

RETURN = r"""
_value:
  description: The input.
  type: raw
"""

import typing as t

from ansible.plugins.loader import connection_loader, lookup_loader, test_loader

from ansible_collections.bcm.core.plugins.module_utils._base.bytecode import use_bytecode

_LOOKUPS = ("ansible.builtin.vars", "bcm.core.ca_key", "bcm.core.template")


def preloaded(value: t.Any) -> t.Any:
    connection_loader.get("bcm.core.lxd", class_only=True)
    for name in _LOOKUPS:
        lookup_loader.get(name, class_only=True)
    test_loader.get("ansible.builtin.search")  # with all others that are Ansible's own
    return value


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        use_bytecode()
        return {"preloaded": preloaded}
