# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """C(bcm.core.files): the option C(files)."""

    # The same as in plugin_utils/_files_option.py; a test compares them.
    DOCUMENTATION = r"""
options:
  files:
    description:
      - Files, directories and links, in the order in which they are created.
      - Missing parent directories are created, too, owned by V(root) with mode V(0755).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Its absolute path in the instance.
        type: path
        required: true
      state:
        description:
          - Its desired state.
          - V(absent) removes a directory with all its contents. No other state removes a directory that is in the way.
          - V(file) replaces a link. With V(directory), a link to a directory is accepted if V(root) or its owner
            created the link.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: The content of the file. A file needs this or O(files[].src).
        type: str
      src:
        description: A file on the controller with the content, searched for as by M(ansible.builtin.copy).
        type: str
      target:
        description: The target of the link.
        type: str
      mode:
        description:
          - The mode, octal, best as a string V("0640").
          - A number that looks like a mode without its leading zero, such as 644, is refused.
          - Set-id and sticky bits need a running instance.
          - Not changed if not given; a new file gets V(0644), a new directory V(0755).
        type: raw
      owner:
        description: The user, by name or number. Not changed if not given; new files belong to V(root).
        type: str
      group:
        description: The group, by name or number. Not changed if not given; new files belong to V(root).
        type: str
      sensitive:
        description: Keep the content out of diffs.
        type: bool
        default: false
      exclusive:
        description: Whether everything in the directory that O(files) does not list is removed.
        type: bool
        default: false
"""
