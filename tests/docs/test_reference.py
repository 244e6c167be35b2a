# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The published JSON Schema and the reference of fields are those of the table that reads stack.yml."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.docs.reference import BEGIN, END, PAGE, SCHEMA, reference, schema_text
from tests.support import ROOT

AGAIN = "run python3 -m tests.docs.reference"
STACKS = sorted(ROOT.glob("**/meta/stack.yml"))


def test_published_schema_is_that_of_the_table() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), AGAIN


def test_page_has_the_reference_of_the_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0] == reference(), AGAIN


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(Draft202012Validator.META_SCHEMA)


@pytest.mark.parametrize("path", STACKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_stack_fits_the_schema(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    Draft202012Validator(yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))).validate(document)


def test_there_are_stacks() -> None:
    assert len(STACKS) > 6
