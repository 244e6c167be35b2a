# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base import read


@pytest.mark.parametrize(
    "text",
    ["", "{", "NaN", "-Infinity", "9" * 5000, "[" * 5000, '{"a":' * 5000, '"\\ud800"', b"\xff", b'{"\\udc00": 1}'],
)
def test_invalid_json_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="."):
        read.read_json(text)


def test_json() -> None:
    assert read.read_json('{"a": ["\\ud83d\\ude00", 1, null]}') == {"a": ["😀", 1, None]}
    with pytest.raises(ValueError, match="it holds no mapping"):
        read.read_object("[]")
    with pytest.raises(ValueError, match="no mapping of names to texts"):
        read.texts_of({"a": 1})


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1\n", "1_0", "٣", "1.0", "0x1", "65536", "9" * 5000])
def test_invalid_ports_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no whole number from 1 to 65535"):
        read.read_number(text, 1, 65535)


@pytest.mark.parametrize("text", [None, 7, "", "2026-13-01", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
def test_invalid_times_are_refused(text: Any) -> None:
    with pytest.raises(ValueError, match="."):
        read.read_moment(text)


@pytest.mark.parametrize(
    ("value", "shape", "fits"),
    [
        (1, int, True), (True, int, False), (True, bool, True), (None, (str, None), True), (1, (str, None), False),
        ([1, 2], [int], True), ([1, "a"], [int], False), ([], [int], True), ([1, "a"], [int, str], True),
        ([1], [int, str], False), ("ab", [str], False), ({"a": 1, "b": 2}, {"a": int}, True), ({}, {"a": int}, False),
        ({"a": 1}, {str: int}, True), ({"a": "x"}, {str: int}, False), ([], {str: int}, False),
        ({"a": [{"b": None}]}, {"a": [{"b": (int, None)}]}, True),
    ],
)  # fmt: skip
def test_shape(value: Any, shape: Any, fits: bool) -> None:
    assert read.has_shape(value, shape) == fits


def test_another_shape_is_refused() -> None:
    assert read.read_shaped('{"a": [1]}', {"a": [int]}) == {"a": [1]}
    with pytest.raises(ValueError, match="not of the form"):
        read.read_shaped('{"a": [true]}', {"a": [int]})
