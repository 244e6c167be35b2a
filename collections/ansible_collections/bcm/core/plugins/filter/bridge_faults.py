# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the bridges that tor is given."""

from __future__ import annotations

DOCUMENTATION = r"""
name: bridge_faults
short_description: List the faults in lines of Tor bridges
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Checks lines as in tor's option C(Bridge), of the transports obfs4 and snowflake, and without a transport.
  - A line is named by its number and not shown, since anybody who knows a bridge can block it.
positional: hosts
options:
  _input:
    description: The lines.
    type: list
    elements: str
    required: true
  hosts:
    description: Names of hosts that a transport needs, and their IPv4 addresses.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Refuse bridges that tor could not use
  ansible.builtin.assert:
    that: tor_bridges | bcm.core.bridge_faults(tor_hosts) == []
"""

RETURN = r"""
_value:
  description: The faults, as sentences; empty if there are none.
  type: list
  elements: str
  sample: ["line 1 of tor_bridges: ADDRESS:PORT is missing"]
"""

import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.bcm.core.plugins.module_utils._tor.bridges import faults


def bridge_faults(lines: t.Any, hosts: t.Any = None) -> list[str]:
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        return ["tor_bridges is not a list of lines"]
    if hosts is not None and not isinstance(hosts, Mapping):
        raise AnsibleFilterError("bridge_faults needs a mapping of names and addresses")
    return faults(lines, hosts or {})


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"bridge_faults": bridge_faults}
