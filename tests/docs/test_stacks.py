# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/stacks.md tells the truth, and its example works."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._datacenter.project_state import image_namer
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from ansible_collections.bcm.core.plugins.module_utils._plan.model import plain
from ansible_collections.bcm.core.plugins.module_utils._plan.plan import Planner
from ansible_collections.bcm.core.plugins.module_utils._plan.request import ProjectState, Request
from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Stack
from ansible_collections.bcm.core.plugins.module_utils._plan.stack_file import parse, stack_type
from ansible_collections.bcm.core.plugins.plugin_utils.role_variables import RoleVariables
from tests.support import COLLECTION, ROOT

EXAMPLES = ROOT / "docs/examples/stacks"
PAGE = (ROOT / "docs/stacks.md").read_text()


def planner(**variables: Any) -> Planner:
    loader = DataLoader()
    request = Request(["hello"], chain="regtest", datacenter="local")
    given = {"bcm": {"chain": request.chain, "datacenter": request.datacenter}, **variables}

    def variables_of(stacks: Sequence[Stack]) -> RoleVariables:
        return RoleVariables(Templar(loader=loader, variables={}), loader, stacks, given)

    known = Catalogue.read([EXAMPLES])
    # What ours assert may use filters of the collection, which only Ansible itself finds.
    stacks = [replace(stack, assertions=stack.assertions * stack.role.startswith("/")) for stack in known.values()]
    return Planner(Catalogue(stacks), request, variables_of)


def test_the_example_is_planned_with_our_own_stacks() -> None:
    whole = planner()
    plan = plain(whole.plan(lambda _site: ProjectState(), image_namer({})))
    assert plan["stacks"] == ["tor", "bitcoind", "electrs", "hello"]
    hello = plan["instances"]["hello"]
    assert hello["role"] == hello["role_path"] == str(EXAMPLES / "hello")
    assert hello["needs"]["electrs"]["electrum"]["address"] == plan["instances"]["electrs"]["address"]
    assert plan["instances"]["electrs"]["consumers"] == {
        "hello": {"address": hello["address"], "services": ["electrum"], "permissions": {}, "events": []}
    }


def test_assertion_of_the_example_fails_as_it_says() -> None:
    with pytest.raises(
        BcmError, match="Stack hello requires .*: the greeting has to fit on one line; set hello_greeting to"
    ):
        planner(hello_greeting="Hello " * 20).plan(lambda _site: ProjectState(), image_namer({}))


def test_the_example_has_every_file_of_the_table() -> None:
    named = re.findall(r"^\| `([a-z]+/[a-z_]+\.yml)` \|", PAGE, re.MULTILINE)
    assert len(named) == 5
    assert [name for name in named if not (COLLECTION / "roles/electrum" / name).is_file()] == []
    assert [name for name in named[:4] if not (EXAMPLES / "hello" / name).is_file()] == []


def test_the_page_shows_every_field() -> None:
    block = next(text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if text.startswith("schema:"))
    document = yaml.safe_load(block)
    assert set(document) == set(stack_type().keys)
    stack = parse(document, "electrs", Path("docs/stacks.md"), "electrs", ROOT)
    assert stack.artifact.floor is not None
    assert stack.volumes["data"].size("regtest") == "2GiB"


def test_the_page_names_every_part_of_bcm_that_exists() -> None:
    plan = plain(planner().plan(lambda _site: ProjectState(), image_namer({})))
    named = re.findall(r"`bcm\.([a-z_]+)[.`]", PAGE)
    assert set(named) <= set(plan["instances"]["electrs"])
