# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs in the instance of a stack."""

from __future__ import annotations

DOCUMENTATION = r"""
name: stack_units
short_description: Make the systemd units of a stack from what its role declares
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Returns what M(bcm.core.lxd_unit) is given for a stack beside the files of its role.
  - These are the directories of its volumes, its units, their sandbox, and the programs that they run.
positional: bcm, secrets, common
options:
  _input:
    description: The units by name, as C(docs/stacks.md) describes them.
    type: dict
    required: true
  bcm:
    description: The stack's part of the plan.
    type: dict
    required: true
  secrets:
    description: The secrets that the stack is given, by name.
    type: dict
    required: true
  common:
    description: The path of the role C(_common).
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the names of the files
  ansible.builtin.debug:
    msg: "{{ echo_units | bcm.core.stack_units(bcm, bcm_secrets, role_path) | map(attribute='path') }}"
"""

RETURN = r"""
_value:
  description: The option C(files) of M(bcm.core.lxd_unit).
  type: list
  elements: dict
  sample: [{"path": "/etc/systemd/system/echo.service", "content": "[Unit]…"}]
"""

import typing as t
from pathlib import Path

from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import shown
from ansible_collections.bcm.core.plugins.module_utils._plan import unit_texts
from ansible_collections.bcm.core.plugins.plugin_utils._action import plain


def stack_units(units: t.Any, bcm: t.Any, secrets: t.Any, common: str) -> list[dict[str, t.Any]]:
    try:
        return unit_texts.of_stack(plain(bcm), plain(units), plain(secrets), Path(common))
    except BcmError as error:
        raise AnsibleFilterError(shown(str(error))) from None


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"stack_units": stack_units}
