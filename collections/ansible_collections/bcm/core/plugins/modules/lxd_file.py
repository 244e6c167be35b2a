#!/usr/bin/python
# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxd_file
short_description: Manage files, directories and links in LXD instances
version_added: 0.1.0
description:
  - Brings any number of files, directories and links of an instance to their desired state, over one SFTP session of
    the API. It reads the existing ones and writes only what differs.
  - A file is replaced atomically, so that a partial one is never read.
  - The instance may be stopped.
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
extends_documentation_fragment:
  - bcm.core.lxd
  - bcm.core.files
  - bcm.core.attributes
  - bcm.core.attributes.reconciles
  - bcm.core.attributes.group_lxd
options:
  instance:
    description: The name of the instance.
    type: str
    required: true
seealso:
  - module: bcm.core.lxd_unit
"""

EXAMPLES = r"""
- name: Write a configuration file and create the data directory
  bcm.core.lxd_file:
    project: bcm-home-regtest
    instance: electrs
    files:
      - path: /etc/electrs/electrs.toml
        content: "{{ lookup('bcm.core.template', 'electrs.toml.j2') }}"
        owner: electrs
        group: electrs
        mode: "0600"
        sensitive: true
      - path: /var/lib/electrs
        state: directory
        owner: electrs
        group: electrs
        mode: "0700"
      - path: /etc/motd
        state: absent
"""

RETURN = r"""
files:
  description: The paths that were changed, or in check mode would be changed.
  returned: success
  type: list
  elements: str
digest:
  description: SHA-256 over the desired state of all files.
  returned: success
  type: str
"""
