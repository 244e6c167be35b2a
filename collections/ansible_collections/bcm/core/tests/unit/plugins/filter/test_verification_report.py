# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.filter.verification_report import FilterModule, verification_report

EMPTY: dict[str, Any] = {"facts": {}, "notes": [], "warnings": []}
GOOD = {"facts": {"height": 101}, "notes": ["height 101"], "warnings": ["it is slow"]}


def test_filter_is_found_by_its_name() -> None:
    assert FilterModule().filters()["verification_report"]({}, "echo") == EMPTY


@pytest.mark.parametrize(
    ("answer", "expected"), [(GOOD, GOOD), ({"notes": ["a"]}, {**EMPTY, "notes": ["a"]}), ({}, EMPTY)]
)
def test_report_is_returned_whole(answer: Any, expected: Any) -> None:
    assert verification_report(answer, "echo") == expected


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ([], "(it is not a JSON object)"),
        (None, "(it is not a JSON object)"),
        ({"facts": []}, "(facts is not a mapping)"),
        ({"notes": "fine"}, "(notes is not a list of texts)"),
        ({"notes": [1]}, "(notes is not a list of texts)"),
        ({"warnings": None}, "(warnings is not a list of texts)"),
        ({"note": ["height 101"]}, "(it has note)"),
    ],
)
def test_anything_else_is_a_warning_that_names_the_stack(answer: Any, fault: str) -> None:
    report = verification_report(answer, "echo")
    (warning,) = report["warnings"]
    assert report == {**EMPTY, "warnings": [warning]}
    assert "the verify program of stack echo succeeded" in warning
    assert fault in warning
