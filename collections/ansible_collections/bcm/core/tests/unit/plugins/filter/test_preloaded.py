# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from importlib.machinery import SourceFileLoader

import pytest

from ansible_collections.bcm.core.plugins.filter.preloaded import FilterModule
from ansible_collections.bcm.core.plugins.module_utils import _base


def test_modules_of_the_collection_are_loaded_as_python_loads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    others = list(sys.meta_path)
    monkeypatch.setattr(sys, "meta_path", [*others])
    assert FilterModule().filters()["preloaded"]("localhost") == "localhost"
    FilterModule().filters()
    assert sys.meta_path[1:] == others
    found = sys.meta_path[0].find_spec(f"{_base.__name__}.text", list(_base.__path__))
    assert found
    assert isinstance(found.loader, SourceFileLoader)
    assert found.cached
    assert found.cached.endswith(".pyc")
    for name in ("json", f"{_base.__name__}.none"):
        assert sys.meta_path[0].find_spec(name, list(_base.__path__)) is None
