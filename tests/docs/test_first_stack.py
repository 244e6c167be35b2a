# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/first-stack.md shows the files of the example as they are, and all of them."""

from __future__ import annotations

import re

from tests.gates.test_repository import HEADER
from tests.support import ROOT

EXAMPLE = ROOT / "docs/examples/stacks/echo"
PAGE = (ROOT / "docs/first-stack.md").read_text()
LISTINGS = dict(re.findall(r"^`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_every_listing_is_the_file_of_the_example() -> None:
    files = {name: (EXAMPLE / name).read_text().removeprefix(HEADER).lstrip("\n") for name in LISTINGS}
    assert files == LISTINGS


def test_every_file_of_the_example_is_listed() -> None:
    files = {str(path.relative_to(EXAMPLE)) for path in EXAMPLE.rglob("*") if path.is_file()}
    assert {name for name in files if "__pycache__" not in name} - {"README.md"} == set(LISTINGS)
