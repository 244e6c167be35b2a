# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError, NotFound


@pytest.mark.parametrize(
    ("parts", "sentence", "thing", "fault"),
    [
        (("/etc/x", "is damaged", "restore it"), "/etc/x is damaged: restore it", "/etc/x", "is damaged"),
        (("Trezor:", "none here;", "plug it in"), "Trezor: none here; plug it in", "Trezor", "none here"),
        (("Nothing runs", "", "start it"), "Nothing runs: start it", "Nothing runs", ""),
        (("Nothing runs",), "Nothing runs", "Nothing runs", ""),
    ],
)
def test_a_sentence_is_joined_from_its_parts(parts: tuple[str, ...], sentence: str, thing: str, fault: str) -> None:
    error = BcmError(*parts)
    assert str(error) == sentence
    assert (error.thing, error.fault) == (thing, fault)


def test_a_thing_is_named_apart_from_the_words_that_the_sentence_begins_with() -> None:
    error = BcmError("Failed to update project a:", "it is busy", about="project a")
    assert (str(error), error.thing) == ("Failed to update project a: it is busy", "project a")


def test_a_code_is_that_of_the_class_unless_one_is_given() -> None:
    assert (BcmError("x").code, LxdError("x").code, NotFound("x").code) == ("failed", "server_error", "not_found")
    assert LxdError("x", code="conflict").code == "conflict"


def test_an_error_found_within_something_names_that_first() -> None:
    error = NotFound("Field a", "is 3", "write 4").within("file b")
    assert str(error) == "file b: Field a is 3: write 4"
    assert error.parts == {"code": "not_found", "thing": "file b", "fault": "Field a is 3", "remedy": "write 4"}
    assert isinstance(error, NotFound)


def test_an_error_becomes_one_of_another_class_with_the_same_parts() -> None:
    error = BcmError("Name", "is unknown", "look it up", code="unknown_name").within("file")
    other = LxdError.of(error)
    assert (str(other), other.parts) == (str(error), error.parts)
