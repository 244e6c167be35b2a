# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""QR codes of texts, for pages."""

from __future__ import annotations

DOCUMENTATION = r"""
name: qr_codes
short_description: Make QR codes of texts, as paths of SVG
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Makes the smallest QR code of each text.
options:
  _input:
    description: The texts.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show the code of an address
  ansible.builtin.debug:
    msg: "{{ ['example.org:80'] | bcm.core.qr_codes }}"
"""

RETURN = r"""
_value:
  description: For each text, C(size), the width and height with the light border, and C(path), its dark modules.
  type: dict
"""

import typing as t

from ansible_collections.bcm.core.plugins.module_utils._base import qr
from ansible_collections.bcm.core.plugins.plugin_utils._action import plain


def qr_codes(texts: t.Any) -> dict[str, t.Any]:
    return {text: qr.svg_path(qr.code(text)) for text in plain(texts)}


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"qr_codes": qr_codes}
