# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every page can be followed: links lead somewhere, lines fit on a screen, quoted messages are the programs'."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support import COLLECTION, ROOT

_LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
PAGES = [ROOT / name for name in _LISTED.stdout.splitlines() if (ROOT / name).is_file()]
_FENCE = re.compile(r"^\s*```.*?^\s*```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_MOST_COLUMNS = 120


def prose(page: Path) -> str:
    """The page without its listings."""
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        name, _hash, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_are_short(page: Path) -> None:
    lines = [line for line in prose(page).splitlines() if not line.lstrip().startswith("|")]
    assert [line for line in lines if len(line) > _MOST_COLUMNS] == []


def test_the_readme_leads_to_every_page() -> None:
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in _LINK.findall(prose(ROOT / "README.md"))}
    assert [page.name for page in PAGES if page.parent == ROOT / "docs" and page not in linked] == []


def test_quoted_messages_are_those_of_the_programs() -> None:
    table = (ROOT / "docs/troubleshooting.md").read_text().split("## Common failures")[1].split("##")[0]
    quoted = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    parts = [part.strip(" ,") for message in quoted for part in message.split("…") if part.strip(" ,")]
    folders = (ROOT / "bcm_cli", COLLECTION / "plugins", COLLECTION / "roles")
    sources = [path for folder in folders for path in folder.rglob("*.py")]
    text = "".join(path.read_text() for path in sources)
    # A message may go on in the next literal, or in the next argument: thing, fault, remedy.
    text = re.sub(r'",\s+f?"', " ", re.sub(r'"\n\s+f?"', "", text))
    assert len(quoted) > 5
    assert [part for part in parts if part not in text] == []
