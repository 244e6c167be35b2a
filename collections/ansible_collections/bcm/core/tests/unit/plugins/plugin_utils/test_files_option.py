# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option `files`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.plugin_utils._files_option import wanted_files


def wanted(**item: Any) -> dict[str, Any]:
    return wanted_files([{"path": "/a", "state": "file", **item}], str)[0]


def test_content_and_source(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xff")
    assert wanted(content="ü")["content"] == "ü".encode()
    assert wanted(src=str(tmp_path / "file"))["content"] == tmp_path / "file"
    assert wanted(path="/a/", state="directory")["path"] == "/a"


@pytest.mark.parametrize(
    ("mode", "number"),
    [
        *(("0640", 0o640), ("640", 0o640), ("0o640", 0o640), ("4755", 0o4755), ("0070", 0o70), (None, None)),
        *((mode, mode) for mode in (0, 0o400, 0o600, 0o640, 0o644, 0o700, 0o711, 0o744, 0o750, 0o755, 0o775, 0o777)),
        *((mode, mode) for mode in (0o1777, 0o2750, 0o2775, 0o4755, 0o6711)),
    ],
)
def test_mode(mode: Any, number: int | None) -> None:
    assert wanted(content="", mode=mode)["mode"] == number


@pytest.mark.parametrize("mode", [
    *("u+x", "u=rw,g=r", "999", "0999", "", "64", "rw-r--r--", " 0644", "0644\n", "0b110", "77777", "64_4"),
    *(-1, 0o20000, True, 1.5, [], 999, 888, 12, 8, 7),
    # decimal: somebody forgot the zero
    *(400, 440, 444, 500, 550, 555, 600, 640, 644, 660, 664, 666, 700, 710, 711, 744, 750, 755, 770, 775, 777),
    *(1777, 2750, 2755, 2775, 4755, 6755),
])  # fmt: skip
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
def test_options_that_contradict_each_other_are_refused(item: dict[str, Any], message: str) -> None:
    with pytest.raises(LxdError, match=message):
        wanted(**item)
