# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """C(bcm.core.files): the option C(files)."""

    # Twin of plugin_utils/_lxd_files.py
    DOCUMENTATION = r"""
options:
  files:
    description:
      - Files, directories and links, in the order in which they are made.
      - Directories above them that are missing are made too, as V(root)'s with mode V(0755).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it is in the instance; an absolute path.
        type: path
        required: true
      state:
        description:
          - What it is to be.
          - V(absent) removes a directory with all that is in it. No other state removes a directory that is in the way.
          - V(file) takes the place of a link. V(directory) may be a link to one, if V(root) or its owner made the link.
        type: str
        choices: [file, directory, link, absent]
        default: file
      content:
        description: All that is in the file. A file needs this or O(files[].src).
        type: str
      src:
        description: A file of the controller with the content, looked for as M(ansible.builtin.copy) does.
        type: str
      target:
        description: Where the link leads.
        type: str
      mode:
        description:
          - The mode, octal, best as a string V("0640").
          - A number that reads like a mode without its leading zero, such as 644, is refused.
          - Set-id and sticky bits need an instance that runs.
          - Left alone if not given; what is new gets V(0644), a directory V(0755).
        type: raw
      owner:
        description: The user, by name or number. Left alone if not given; what is new belongs to V(root).
        type: str
      group:
        description: The group, by name or number. Left alone if not given; what is new belongs to V(root).
        type: str
      sensitive:
        description: Keep the content out of the difference that is shown.
        type: bool
        default: false
      exclusive:
        description: Whether all that is in the directory, and that O(files) does not list, is removed from it.
        type: bool
        default: false
"""
