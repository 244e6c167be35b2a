# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan that Ansible gets, and what the module `plan` says of it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bcm.core.plugins.module_utils._image import images
from ansible_collections.bcm.core.plugins.module_utils._plan import model, unit_texts
from ansible_collections.bcm.core.plugins.module_utils._plan.model import Image, Instance, Plan, plain
from ansible_collections.bcm.core.plugins.modules import plan as documentation

DOCUMENTED = yaml.safe_load(documentation.RETURN)["plan"]["contains"]
TYPES = {str: "str", bool: "bool", int: "int", tuple: "list", Mapping: "dict"}


def _type(hint: Any) -> str:
    """What documentation calls a type."""
    options = [item for item in typing.get_args(hint) if item is not type(None)]
    if type(None) in typing.get_args(hint):
        hint = options[0]
    if dataclasses.is_dataclass(hint):
        return "dict"
    return TYPES[typing.get_origin(hint) or hint]


@pytest.mark.parametrize(
    ("kind", "documented"),
    [
        (Plan, DOCUMENTED),
        (Instance, DOCUMENTED["instances"]["contains"]),
        (Image, DOCUMENTED["images"]["contains"]),
    ],
)
def test_module_documents_every_field(kind: type, documented: dict[str, Any]) -> None:
    hints = typing.get_type_hints(kind, vars(model))
    assert {name: _type(hint) for name, hint in hints.items()} == {
        name: found["type"] for name, found in documented.items()
    }


@pytest.mark.parametrize(("read", "kind"), [(images.Image, Image), (unit_texts.Facts, Instance)])
def test_what_is_read_on_the_other_side_of_ansible_is_in_the_plan(read: type, kind: type) -> None:
    """In both, the same keys may be None."""
    hints, planned = typing.get_type_hints(read), typing.get_type_hints(kind, vars(model))
    assert {"signers", "digests"} >= hints.keys() - planned.keys()
    common = hints.keys() & planned.keys()
    assert {name for name in common if type(None) in typing.get_args(hints[name])} == {
        name for name in common if type(None) in typing.get_args(planned[name])
    }


def test_plain_makes_mappings_and_lists() -> None:
    @dataclasses.dataclass(frozen=True)
    class Inner:
        names: tuple[str, ...]

    @dataclasses.dataclass(frozen=True)
    class Outer:
        inner: Mapping[str, Inner]
        nothing: None = None

    assert plain(Outer({"x": Inner(("a", "b"))})) == {"inner": {"x": {"names": ["a", "b"]}}, "nothing": None}


def test_type_names_are_known() -> None:
    assert _type(typing.get_type_hints(Plan, vars(model))["download_proxy"]) == "dict"
    assert Path(str(documentation.__file__)).name == "plan.py"
