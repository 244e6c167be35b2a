# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verify tasks of a stack have to say."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verification_report
short_description: Facts, notes and warnings of a stack's verify program
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Checks what the verify program of a stack printed, which is a JSON object with C(facts), a mapping, and C(notes) and
    C(warnings), each a list of texts. Each is optional.
  - Anything else is not an error, since the program succeeded. It becomes a warning that names the stack.
positional: stack
options:
  _input:
    description: RV(bcm.core.lxd_program#module:answer); empty if the program did not run.
    type: dict
    required: true
  stack:
    description: The name of the stack, which is that of its instance.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what the verify program of tor found
  ansible.builtin.debug:
    msg: "{{ (verified.answer | bcm.core.verification_report('tor')).notes }}"
"""

RETURN = r"""
_value:
  description: The facts for programs, the notes and warnings for people.
  type: dict
  sample: {"facts": {"height": 101}, "notes": ["height 101"], "warnings": []}
"""

import typing as t
from collections.abc import Mapping

_FORM = '{"facts": {}, "notes": ["…"], "warnings": ["…"]}'


def verification_report(answer: t.Any, stack: str) -> dict[str, t.Any]:
    fault = _fault(answer)
    if fault is None:
        return {"facts": answer.get("facts", {}), **{key: answer.get(key, []) for key in ("notes", "warnings")}}
    warning = (
        f"the verify program of stack {stack} succeeded, but what it printed is not a report ({fault}): have it print "
        f"JSON such as {_FORM}, as prove() of bcm_guest does"
    )
    return {"facts": {}, "notes": [], "warnings": [warning]}


def _fault(answer: t.Any) -> str | None:
    if not isinstance(answer, Mapping):
        return "it is not a JSON object"
    if not isinstance(answer.get("facts", {}), Mapping):
        return "facts is not a mapping"
    for key in ("notes", "warnings"):
        value = answer.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            return f"{key} is not a list of texts"
    unknown = sorted(str(key) for key in answer if key not in ("facts", "notes", "warnings"))
    return f"it has {', '.join(unknown)}"[:80] if unknown else None


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"verification_report": verification_report}
