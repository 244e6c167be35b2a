# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JSON Schema of stack.yml refuses what the parser refuses, where a schema can say it, and nothing else."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.bcm.core.plugins.module_utils._base.fields import CatalogueError
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import ROLES
from ansible_collections.bcm.core.plugins.module_utils._plan.stack_file import json_schema, parse

from .test_catalogue import WRONG, _spoil

# ansible-test, which has no jsonschema, imports these files, too
jsonschema = pytest.importorskip("jsonschema")

VALIDATOR = jsonschema.Draft202012Validator(json_schema())
SAMPLES = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(ROLES.glob("*/meta/stack.yml"))]
#: what is wrong with a field only beside another field or another stack, or is a matter of control characters
BEYOND_A_SCHEMA = (
    "is not needed: add", "needed already", "Unknown stack", "Unknown service", "cannot be called that: use at most 24",
    "needs uplink", "leave one of them out", "tls is not mutual", "but the protocol is", "leaves out chains",
    "has no gateway",
    "belongs to a service", "lets in clients", "a port of electrum", "signers must have signed", "under two names",
    "has nothing to compare", "write one of electrum", "ports.mainnet is missing", "on one line", "write a version",
    "versions.0 is", "is electrs itself",
)  # fmt: skip


def _parses(document: Any) -> bool:
    try:
        parse(document, "sample", Path("stack.yml"), "sample", Path("sample"))
    except CatalogueError:
        return False
    return True


@pytest.mark.parametrize(("field", "value", "complaint"), WRONG)
def test_wrong_field_is_refused_by_the_schema(
    documents: dict[str, Any], field: str, value: Any, complaint: str
) -> None:
    document = copy.deepcopy(documents["electrs"])
    _spoil(document, field, value)
    refused = not VALIDATOR.is_valid(document)
    assert refused or any(words in complaint for words in BEYOND_A_SCHEMA), complaint


@pytest.mark.parametrize("document", SAMPLES, ids=lambda document: document["description"][:20])
def test_stack_fits_the_schema(document: Any) -> None:
    assert _parses(document)
    VALIDATOR.validate(document)


_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 70000), st.text(max_size=8), st.floats(), st.just([]), st.just({}),
    st.sampled_from(["1GiB", "x", "9", "https://example.org/x", "a" * 64, "A" * 40, "tcp", "regtest", "/srv", ["a"]]),
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys: Any = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path, *(place for key in keys for place in _places(value[key], (*path, key)))][0 if path else 1 :]


@st.composite
def spoiled_stacks(draw: st.DrawFn) -> Any:
    """A real stack.yml with up to three values replaced, removed or added."""
    document = copy.deepcopy(draw(st.sampled_from(SAMPLES)))
    for _time in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(_places(document)))
        parent = document
        for key in parents:
            parent = parent[key]
        change = draw(st.sampled_from(["replace", "remove", "add"]))
        if change == "replace":
            parent[last] = draw(_VALUES)
        elif change == "remove":
            del parent[last]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(["optional", "port", "tls", "x", "services", "default", "version"]))] = draw(
                _VALUES
            )
        if not _places(document):
            break
    return document


@given(spoiled_stacks())
def test_schema_refuses_nothing_that_the_parser_takes(document: Any) -> None:
    if _parses(document):
        VALIDATOR.validate(document)
