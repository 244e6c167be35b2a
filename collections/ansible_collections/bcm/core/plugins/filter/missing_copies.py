# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The copies that folders of the controller lack."""

from __future__ import annotations

DOCUMENTATION = r"""
name: missing_copies
short_description: List the copies that folders of the controller lack
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Looks into the folders, so that what they have already need not be fetched. A file with other contents counts as
    missing.
positional: folders
options:
  _input:
    description: The SHA-256 of each copy, in hexadecimal, by its file name.
    type: dict
    required: true
  folders:
    description: The folders. V(~) is the home directory.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Fetch what is missing
  ansible.builtin.fetch:
    src: /var/lib/backups/copies/{{ item.name }}
    dest: "{{ item.folder }}/"
    flat: true
  loop: "{{ newest | bcm.core.missing_copies(['~/channels']) }}"
"""

RETURN = r"""
_value:
  description: Each copy and the folder that lacks it.
  type: list
  elements: dict
  sample: [{"name": "local-regtest-lnd-20261130T073111.320040Z.age", "folder": "~/channels"}]
"""

import hashlib
import typing as t
from pathlib import Path


def missing_copies(copies: t.Mapping[str, str], folders: t.Iterable[str]) -> list[dict[str, str]]:
    return [
        {"name": name, "folder": folder}
        for folder in folders
        for name, digest in copies.items()
        if _digest(Path(folder).expanduser() / name) != digest
    ]


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # fetching says why it cannot be written, either
        return None


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., list[dict[str, str]]]]:
        return {"missing_copies": missing_copies}
