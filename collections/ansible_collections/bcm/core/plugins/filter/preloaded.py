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
  - Returns its input. Used in C(hosts) of the first play, it has Ansible load its own filters there, and not again in
    the process of each task.
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

from ansible_collections.bcm.core.plugins.module_utils._base.bytecode import use_bytecode


def preloaded(value: t.Any) -> t.Any:
    return value


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        use_bytecode()
        return {"preloaded": preloaded}
