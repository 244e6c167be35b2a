# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sandbox of a unit."""

from __future__ import annotations

DOCUMENTATION = r"""
name: sandbox
short_description: Make the sandbox of a unit of a stack
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Returns the drop-in of systemd that closes a unit in.
positional: bcm
options:
  _input:
    description: What the program needs beyond the sandbox, as C(docs/stacks.md) describes it.
    type: dict
    required: true
  bcm:
    description: The stack's part of the plan.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the sandbox of a program that asks the kernel for its addresses
  ansible.builtin.debug:
    msg: "{{ {'families': ['AF_NETLINK']} | bcm.core.sandbox(bcm) }}"
"""

RETURN = r"""
_value:
  description: The text of the drop-in.
  type: str
  sample: "[Service]\nPrivateTmp=yes\n…"
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import shown
from ansible_collections.bcm.core.plugins.module_utils._plan import unit_texts
from ansible_collections.bcm.core.plugins.plugin_utils._action import plain


def sandbox(needs: t.Any, bcm: t.Any) -> str:
    try:
        return unit_texts.sandbox(plain(bcm), plain(needs))
    except BcmError as error:
        raise AnsibleFilterError(shown(str(error))) from None


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"sandbox": sandbox}
