# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of templates, without a copy of all variables for each."""

from __future__ import annotations

DOCUMENTATION = r"""
name: template
short_description: Read files of templates with all variables that there are
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors (@BitcoinCacheMachine)
description:
  - Returns the same as P(ansible.builtin.template#lookup) without options.
  - That one copies all variables in depth for each template. Where a host knows a plan and certificates of many stacks,
    this took most of the time of a template.
options:
  _terms:
    description: Paths of templates, or their names in the folder C(templates) of the role or playbook.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Write the settings
  bcm.core.lxd_file:
    instance: electrs
    files:
      - path: /etc/electrs/config.toml
        content: "{{ lookup('bcm.core.template', 'electrs.toml.j2') }}"
"""

RETURN = r"""
_raw:
  description: The texts.
  type: list
  elements: str
"""

import os
import typing as t
from collections import ChainMap

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.template import generate_ansible_template_vars, trust_as_template


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        return [self._read(term, variables or {}) for term in terms]

    def _read(self, term: str, variables: dict[str, t.Any]) -> str:
        path = self.find_file_in_search_path(variables, "templates", term)
        if not path:
            raise AnsibleLookupError(f"Template {term} is not there")
        places = variables.get("ansible_search_path") or []
        templar = self._templar.copy_with_new_env(
            # what a template may include
            searchpath=[os.path.dirname(path), *(os.path.join(place, "templates") for place in places), *places],
            available_variables=ChainMap(generate_ansible_template_vars(term, path), variables),
        )
        text = trust_as_template(self._loader.get_text_file_contents(path))
        return templar.template(text, escape_backslashes=False)
