# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each stack by itself, without a container: what `./bcm test --stack NAME` runs besides the gates."""

from __future__ import annotations

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.names import stack_of
from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from tests.support import COLLECTION

STACKS = sorted(path.parts[-3] for path in COLLECTION.glob("roles/*/meta/stack.yml"))


@pytest.mark.parametrize("stack", STACKS)
def test_the_stack_and_all_that_it_needs_are_in_the_catalogue(stack: str) -> None:
    name = stack_of(stack)
    assert name in Catalogue.read().closure([name])
