# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the table of stack.yml's fields makes: docs/stack.schema.json, and the reference of fields in docs/stacks.md.

``python3 -m tests.docs.reference`` writes both; test_reference.py compares them.
"""

from __future__ import annotations

import json
import re

from ansible_collections.bcm.core.plugins.module_utils._base.schema import fields_of
from ansible_collections.bcm.core.plugins.module_utils._plan.stack_file import json_schema, stack_type
from tests.support import ROOT

SCHEMA = ROOT / "docs/stack.schema.json"
PAGE = ROOT / "docs/stacks.md"
BEGIN, END = "<!-- fields: made by python3 -m tests.docs.reference -->\n", "<!-- end of fields -->\n"


def schema_text() -> str:
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def reference() -> str:
    """A table of all fields. ``*`` stands for a name of one's own."""
    rows = [
        f"| `{path}` | {'yes' if key.required else ''} | {key.description} |"
        for path, key in fields_of(stack_type()).items()
    ]
    return "\n".join(["| field | required | what it is |", "|---|---|---|", *rows, ""])


def with_reference(page: str) -> str:
    """A page with the table between its two marks."""
    return re.sub(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _found: f"{BEGIN}{reference()}{END}", page, flags=re.S
    )


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(with_reference(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
