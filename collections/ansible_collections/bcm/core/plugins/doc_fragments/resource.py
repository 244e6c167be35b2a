# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of most resources of LXD."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  description:
    description: Free text. Left alone if not given.
    type: str
  config:
    description:
      - Configuration keys, as LXD's API names them. Left alone if not given; if given, replaces everything that is
        there but what belongs to the server (C(volatile.*), C(image.*) and what the server filled in by itself, such as
        an address or a size).
    type: dict
"""

    # What is made of devices.
    DEVICES = r"""
options:
  devices:
    description: Devices by name, each a mapping as LXD's API has it. Left alone if not given, replaces all if given.
    type: dict
"""
