# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the benchmarks can go wrong without anybody measuring."""

from __future__ import annotations

import re

import pytest

from ansible_collections.bcm.core.plugins.module_utils._plan.catalogue import Catalogue
from benchmarks.measure import Line, interleaved
from benchmarks.noop import shared_files, unit_options
from tests.support import ROOT


def test_variants_take_turns_and_the_median_counts() -> None:
    order: list[str] = []
    times = {"a": iter([1.0, 9.0, 2.0]), "b": iter([5.0, 4.0, 6.0])}

    def variant(name: str) -> float:
        order.append(name)
        return next(times[name])

    assert interleaved({"a": lambda: variant("a"), "b": lambda: variant("b")}, 3) == {"a": 2.0, "b": 5.0}
    assert order == ["a", "b", "b", "a", "a", "b"]


@pytest.mark.parametrize(
    ("line", "met"),
    [
        (Line("work", 1.0, "peer", 5.0, 0.2), True),
        (Line("work", 1.1, "peer", 5.0, 0.2), False),
        (Line("work", 31.0, at_most=30.0), False),
        (Line("work", 31.0), True),
    ],
)
def test_a_limit_is_a_ratio_or_seconds(line: Line, met: bool) -> None:
    assert line.met is met


@pytest.mark.parametrize("role", sorted(Catalogue.read().closure(["electrum"])))
def test_the_peer_holds_what_the_role_configures(role: str) -> None:
    unit = unit_options(role)
    assert unit["files"]
    assert unit["units"]
    # They are read without Ansible's templates.
    assert "{{" not in str(unit["files"]) + str(unit["units"])


def test_the_peer_holds_what_roles_share() -> None:
    files = shared_files()
    paths = {item["path"] for item in files}
    assert {"/etc/bcm/trust", "/etc/bcm/tls/key.pem", "/etc/systemd/system/tls.service"} <= paths
    assert {"/etc/bcm/egress.nft", "/etc/systemd/system/egress.service"} <= paths
    assert "{{" not in str(files)


def test_every_benchmark_is_explained() -> None:
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def lines(" in path.read_text()}
    explained = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/performance.md").read_text(), re.MULTILINE)
    assert set(explained) == modules
