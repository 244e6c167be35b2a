#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: settings
short_description: Check the settings of a data center
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Refuses a variable whose name is nearly that of a setting C(bcm_*), and a setting whose template uses a variable
    that is not defined. With C(default), both would silently mean that it is not set.
  - Refuses a setting that is set only for instances of stacks or their groups, where the plan does not read it.
    Options of the connection, such as C(bcm_server_timeout), may be set there.
  - Reads the variables of the whole inventory, also those of groups and hosts that join it later in a run, and those
    of C(--extra-vars). Other variables that begin with C(bcm_) are warned about.
  - M(bcm.core.plan) does the same for variables of stacks.
extends_documentation_fragment:
  - bcm.core.attributes
  - bcm.core.attributes.reads
options:
  stack_path:
    description: Directories with stacks of one's own, as for M(bcm.core.plan). Instances are called after their stacks.
    type: list
    elements: path
    default: []
seealso:
  - module: bcm.core.plan
"""

EXAMPLES = r"""
- name: Refuse settings that are misspelt or use undefined variables
  bcm.core.settings:
    stack_path: "{{ bcm_stack_path | default(omit) }}"
"""

RETURN = r"""
unread:
  description: The names of variables that begin with C(bcm_) and are no settings.
  returned: success
  type: list
  elements: str
"""
