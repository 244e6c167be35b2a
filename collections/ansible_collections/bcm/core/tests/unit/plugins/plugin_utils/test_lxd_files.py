# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option `files`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.errors import LxdError
from ansible_collections.bcm.core.plugins.plugin_utils._lxd_files import wanted_files


def wanted(**item: Any) -> dict[str, Any]:
    return wanted_files([{"path": "/a", "state": "file", **item}], str)[0]


def test_content_and_source(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff")
    assert wanted(content="ü")["content"] == "ü".encode()
    assert wanted(src=str(tmp_path / "file"))["content"] == b"\xff"
    assert wanted(path="/a/", state="directory")["path"] == "/a"


@pytest.mark.parametrize(
    ("mode", "number"), [("0640", 0o640), ("640", 0o640), (0o640, 0o640), ("4755", 0o4755), (None, None)]
)
def test_mode(mode: Any, number: int | None) -> None:
    assert wanted(content="", mode=mode)["mode"] == number


@pytest.mark.parametrize("mode", ["u+x", "999", "", -1, 0o20000, True, 1.5])
def test_wrong_mode(mode: Any) -> None:
    with pytest.raises(LxdError, match="/a has the mode .*, which is not octal"):
        wanted(content="", mode=mode)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"path": "a", "content": ""}, '"a" is not an absolute path'),
        ({"path": "/", "state": "absent"}, '"/" is not an absolute path below /'),
        ({}, "/a needs either content or src"),
        ({"content": "", "src": "b"}, "/a needs either content or src"),
        ({"state": "directory", "content": ""}, "/a is to be directory, which has no content"),
        ({"state": "link"}, "a target belongs to a link"),
        ({"content": "", "target": "b"}, "a target belongs to a link"),
    ],
)
def test_what_does_not_go_together(item: dict[str, Any], message: str) -> None:
    with pytest.raises(LxdError, match=message):
        wanted(**item)
