# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verify tasks of a stack have to say."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verification_report
short_description: Notes and warnings that the verify tasks of a stack print
version_added: 0.1.0
author:
  - Bitcoin Cache Machine contributors
description:
  - Reads what the last command of a registered result printed, which is a JSON object with C(notes) and C(warnings),
    each a list of texts, and each optional.
  - Anything else is not an error, since the task succeeded. It becomes a warning that names the stack.
positional: stack
options:
  _input:
    description: The result that the verify tasks register, of any module that returns C(stdout) or C(commands).
    type: dict
    required: true
  stack:
    description: The name of the stack, which is that of its instance.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what tor has to say
  ansible.builtin.debug:
    msg: "{{ (tor_verified | bcm.core.verification_report('tor')).notes }}"
"""

RETURN = r"""
_value:
  description: The notes and warnings, for people; both are empty if the tasks did not run or did not succeed.
  type: dict
  sample: {"notes": ["height 101"], "warnings": []}
"""

import json
import typing as t
from collections.abc import Iterator, Mapping

_FORM = '{"notes": ["…"], "warnings": ["…"]}'
_SHOWN = 60


def verification_report(result: t.Any, stack: str) -> dict[str, list[str]]:
    report: dict[str, list[str]] = {"notes": [], "warnings": []}
    for text in _printed(result):
        try:
            found = _parsed(text)
        except (ValueError, RecursionError) as error:
            shown = text.strip()
            shown = f"{shown[:_SHOWN]}…" if len(shown) > _SHOWN else shown
            report["warnings"].append(
                f"the verify tasks of stack {stack} in instance {stack} succeeded, but what they printed is no report "
                f"({error}): {json.dumps(shown)}; have them print JSON such as {_FORM}"
            )
        else:
            for key in report:
                report[key] += found.get(key, [])
    return report


def _printed(result: t.Any) -> Iterator[str]:
    """What the last command of a result printed, or that of each item of a loop."""
    if not isinstance(result, Mapping) or result.get("failed") or result.get("skipped"):
        return
    for item in result.get("results") or ():
        yield from _printed(item)
    commands = result.get("commands")
    last = commands[-1] if commands else result
    if isinstance(last, Mapping) and isinstance(last.get("stdout"), str):
        yield str(last["stdout"])


def _parsed(text: str) -> dict[str, list[str]]:
    """Raises ValueError, which says what is wrong, or RecursionError."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError("it is no JSON") from error
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    for key in ("notes", "warnings"):
        value = found.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ValueError(f"{key} is no list of texts")
    return found


class FilterModule:
    """Ansible's way to find the filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"verification_report": verification_report}
