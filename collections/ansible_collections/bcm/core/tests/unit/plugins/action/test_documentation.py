# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the code of an action accepts and what its module's documentation says are the same."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.bcm.core.plugins.plugin_utils._action import RESERVED, BcmAction

PLUGINS = Path(__file__).parents[4] / "plugins"
ACTIONS = sorted(path.stem for path in (PLUGINS / "action").glob("*.py") if path.stem != "__init__")


def _imported(kind: str, name: str) -> Any:
    return importlib.import_module(f"ansible_collections.bcm.core.plugins.{kind}.{name}")


def _blocks(name: str) -> dict[str, str]:
    """DOCUMENTATION, EXAMPLES and RETURN of a module."""
    tree = ast.parse((PLUGINS / "modules" / f"{name}.py").read_text(encoding="utf-8"))
    return {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _documentation(name: str) -> dict[str, Any]:
    """Parsed documentation of a module, with its fragments."""
    blocks = _blocks(name)
    documentation: dict[str, Any] = yaml.safe_load(blocks["DOCUMENTATION"])
    options, attributes = {}, {}
    for fragment in documentation.get("extends_documentation_fragment", []):
        module, *variant = fragment.removeprefix("bcm.core.").split(".")
        text = getattr(_imported("doc_fragments", module).ModuleDocFragment, (variant or ["documentation"])[0].upper())
        shared = yaml.safe_load(text)
        options.update(shared.get("options") or {})
        for key, value in (shared.get("attributes") or {}).items():
            attributes.setdefault(key, {}).update(value)
    for key, value in (documentation.get("attributes") or {}).items():
        attributes.setdefault(key, {}).update(value)
    for key, value in (documentation.get("options") or {}).items():
        options[key] = {**options.get(key, {}), **value}
    return {
        **documentation,
        "options": options,
        "attributes": attributes,
    }


def _normal(options: dict[str, dict[str, Any]], nested: str) -> dict[str, Any]:
    """Options, documented or coded, with what is said by leaving it out."""
    return {
        name: {
            "type": option.get("type", "str"),
            "elements": option.get("elements"),
            "required": option.get("required", False),
            "default": option.get("default"),
            "choices": sorted(option.get("choices") or [], key=str),
            "aliases": sorted(option.get("aliases") or []),
            "options": _normal(option.get(nested) or {}, nested),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", ACTIONS)
def test_options_are_those_documented(name: str) -> None:
    action = _imported("action", name).ActionModule
    assert issubclass(action, BcmAction)
    documentation = _documentation(name)
    assert documentation["module"] == name
    coded, documented = _normal(action.argument_spec(), "options"), _normal(documentation["options"], "suboptions")
    assert sorted(coded) == sorted(documented)
    for option, facts in coded.items():
        assert facts == documented[option], option


@pytest.mark.parametrize("name", ACTIONS)
def test_attributes_are_honest(name: str) -> None:
    action = _imported("action", name).ActionModule
    attributes = _documentation(name)["attributes"]
    assert set(attributes) >= {"check_mode", "diff_mode", "idempotent"}
    assert all("support" in attribute for attribute in attributes.values())
    assert action._supports_check_mode == (attributes["check_mode"]["support"] != "none")


@pytest.mark.parametrize("name", ACTIONS)
def test_a_module_is_documentation_only(name: str) -> None:
    tree = ast.parse((PLUGINS / "modules" / f"{name}.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [getattr(node, "module", None) for node in imports] == ["__future__"]


@pytest.mark.parametrize("name", ACTIONS)
def test_no_return_value_has_a_name_that_ansible_gives_a_meaning_to(name: str) -> None:
    documented = yaml.safe_load(_blocks(name).get("RETURN", "{}")) or {}
    # Those that Ansible shows in its own way are shown so on purpose, and documented by Ansible.
    assert not documented.keys() & (RESERVED | {"changed", "diff", "error", "failed", "msg", "warnings"})
