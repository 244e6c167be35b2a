# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs can rely on errors: each that is raised has a code, and the documentation has all codes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import CODES
from tests.support import COLLECTION, ROOT

pytestmark = pytest.mark.quick
TREES = {
    path: ast.parse(path.read_text())
    for folder in (COLLECTION / "plugins", ROOT / "bcm_cli")
    for path in sorted(folder.rglob("*.py"))
}
#: too general for a code of their own
GENERAL = ("BcmError", "LxdError")
#: has the code of the first error in it
COLLECTED = "ApplyError"


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _classes() -> dict[str, str]:
    """Every class of errors, and the code that it gives; that of the general ones is empty."""
    found = {"BcmError": ""}
    nodes = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while more := [node for node in nodes if node.name not in found and found.keys() & set(map(_name, node.bases))]:
        for node in more:
            inherited = next(found[_name(base)] for base in node.bases if _name(base) in found)
            own = [
                statement.value.value
                for statement in node.body
                if isinstance(statement, ast.Assign)
                and _name(statement.targets[0]) == "code"
                and isinstance(statement.value, ast.Constant)
            ]
            found[node.name] = "" if node.name in GENERAL else str(own[0]) if own else inherited
    return found


def _codes() -> Iterator[tuple[str, str]]:
    """Where errors are made, and their codes."""
    classes = _classes()
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _name(node.func) in classes.keys() - {COLLECTED}:
                given = [item.value for item in node.keywords if item.arg == "code"]
                code = ast.unparse(given[0]).strip("'") if given else classes[_name(node.func)]
                yield f"{path.relative_to(ROOT)}:{node.lineno}", code


def test_every_error_has_a_code_that_is_documented() -> None:
    known = {"first.code", "error.code"}  # passed on
    assert [f"{where}: {code or 'no code'}" for where, code in _codes() if code not in {*CODES, *known}] == []


def test_every_code_is_used() -> None:
    assert sorted(CODES.keys() - {code for _where, code in _codes()} - {"failed"}) == []


def test_the_page_lists_the_codes() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert dict(rows) == CODES
