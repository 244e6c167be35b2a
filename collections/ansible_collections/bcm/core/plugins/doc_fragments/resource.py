# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of most resources of LXD."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  description:
    description: Free text. Not changed if not given.
    type: str
  config:
    description:
      - Configuration keys, as LXD's API names them. Not changed if not given. If given, they replace all keys except
        those of the server (C(volatile.*), C(image.*) and values that the server set itself, such as an address or a
        size).
    type: dict
"""

    # Resources with devices.
    DEVICES = r"""
options:
  devices:
    description: Devices by name, each a mapping as in LXD's API. Not changed if not given; if given, they replace all
      devices.
    type: dict
"""
