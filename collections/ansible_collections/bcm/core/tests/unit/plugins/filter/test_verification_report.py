# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.filter.verification_report import FilterModule, verification_report

EMPTY: dict[str, list[str]] = {"notes": [], "warnings": []}
GOOD = {"notes": ["height 101"], "warnings": ["it is slow"]}


def test_it_has_its_name() -> None:
    assert FilterModule().filters()["verification_report"]({}, "echo") == EMPTY


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"commands": [{"stdout": "working"}, {"stdout": json.dumps(GOOD)}]}, GOOD),
        ({"stdout": json.dumps(GOOD)}, GOOD),
        ({"stdout": '{"notes": ["a"], "more": 1}'}, {"notes": ["a"], "warnings": []}),
        ({"results": [{"stdout": '{"notes": ["a"]}'}, {"stdout": '{"notes": ["b"]}'}]}, {**EMPTY, "notes": ["a", "b"]}),
        ({"stdout": "boom", "failed": True}, EMPTY),
        ({"skipped": True}, EMPTY),
        ({"commands": []}, EMPTY),
        ({"status": 200}, EMPTY),
        ({}, EMPTY),
    ],
)
def test_printed_json_is_read(result: Any, expected: Any) -> None:
    assert verification_report(result, "echo") == expected


@pytest.mark.parametrize(
    ("printed", "fault"),
    [
        ("all is well\n", 'no report (it is no JSON): "all is well"; have them print JSON such as {'),
        ("", "(it is no JSON)"),
        ("[]", "(it is no JSON object)"),
        ("null", "(it is no JSON object)"),
        ("12", "(it is no JSON object)"),
        ('{"notes": "fine"}', "(notes is no list of texts)"),
        ('{"notes": [1]}', "(notes is no list of texts)"),
        ('{"warnings": null}', "(warnings is no list of texts)"),
        ('{"notes": [}', "(it is no JSON)"),
        ("9" * 5000, "succeeded, but what they printed is no report ("),
        ("[" * 100_000, "succeeded, but what they printed is no report ("),
        ("x\x1b[2Jy", '"x\\u001b[2Jy"'),
    ],
)
def test_anything_else_is_a_warning_that_names_the_stack(printed: str, fault: str) -> None:
    report = verification_report({"commands": [{"stdout": printed}]}, "echo")
    (warning,) = report["warnings"]
    assert report["notes"] == []
    assert "the verify tasks of stack echo in instance echo succeeded" in warning
    assert fault in warning
    assert len(warning) < 400
    assert warning.isprintable()
