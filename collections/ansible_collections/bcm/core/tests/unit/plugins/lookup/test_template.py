# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.template import Templar, trust_as_template

from ansible_collections.bcm.core.plugins.lookup import template

TEXT = r"""# {{ ansible_managed }}
{% set found = bcm.ports | map('string') | join(', ') %}
{% include 'more.j2' %}
{# not written #}
  "ports": [{{ found }}], \n {{ later }}

"""


class Uncopied:
    """The value of a variable that no template uses."""

    def __deepcopy__(self, _memo: Any) -> Any:
        raise AssertionError("the variables were copied")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/settings.j2").write_text(TEXT)
    (tmp_path / "templates/more.j2").write_text("more {{ bcm.name }}\n")
    return tmp_path


def own(**more: Any) -> Any:
    return template.LookupModule(**more)


def builtin(**more: Any) -> Any:
    return lookup_loader.get("template", **more)


def read(lookup: Any, folder: Path, term: str, **more: Any) -> list[str]:
    """The texts of a template, by a lookup, as those of a role in a folder."""
    loader = DataLoader()
    variables = {
        "bcm": {"ports": [1, 2], "name": "electrs"},
        "later": trust_as_template("{{ bcm.name }}"),
        "ansible_search_path": [str(folder)],
        **more,
    }
    templar = Templar(loader=loader, variables=variables)
    texts: list[str] = lookup(loader=loader, templar=templar).run([term], variables)
    return texts


def test_text_is_that_of_ansibles_own_lookup(folder: Path) -> None:
    for term in ("settings.j2", str(folder / "templates/settings.j2")):
        (text,) = read(own, folder, term)
        assert [text] == read(builtin, folder, term)
        assert "more electrs" in text
        assert text.endswith('"ports": [1, 2], \\n electrs\n\n')


def test_variables_are_not_copied(folder: Path) -> None:
    assert read(own, folder, "settings.j2", other=Uncopied())


def test_template_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(AnsibleLookupError, match=r"other\.j2"):
        read(own, folder, "other.j2")
