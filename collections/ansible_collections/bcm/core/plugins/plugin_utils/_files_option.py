# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The option `files` of lxd_file and lxd_unit, and what _lxd.files takes. The fragment bcm.core.files documents it."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from ..module_utils._base.read import is_integer
from ..module_utils._lxd.lxd_errors import LxdError

FILES_ARGUMENT: dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "path": {"type": "path", "required": True},
        "state": {"type": "str", "choices": ["file", "directory", "link", "absent"], "default": "file"},
        "content": {"type": "str"},
        "src": {"type": "str"},
        "target": {"type": "str"},
        "mode": {"type": "raw"},
        "owner": {"type": "str"},
        "group": {"type": "str"},
        "sensitive": {"type": "bool", "default": False},
        "exclusive": {"type": "bool", "default": False},
    },
}

_OCTAL = re.compile(r"(?:0o)?[0-7]{3,5}")
_HIGHEST = 0o7777


def wanted_files(files: t.Sequence[t.Mapping[str, t.Any]], find: t.Callable[[str], str]) -> list[dict[str, t.Any]]:
    """Items as of the module, checked and read; ``find`` says where on the controller a ``src`` is."""
    return [_wanted(item, find) for item in files]


def _wanted(item: t.Mapping[str, t.Any], find: t.Callable[[str], str]) -> dict[str, t.Any]:
    path, state = item["path"], item["state"]
    if not path.startswith("/") or path == "/":
        raise LxdError("files:", f'"{path}" is not an absolute path below /', code="invalid_value")
    sources = [name for name in ("content", "src") if item.get(name) is not None]
    if state == "file" and len(sources) != 1:
        raise LxdError("files:", f"{path} needs either content or src, or another state", code="invalid_value")
    if state != "file" and sources:
        raise LxdError("files:", f"{path} is to be {state}, which has no {sources[0]}", code="invalid_value")
    if (state == "link") != (item.get("target") is not None):
        raise LxdError(
            "files:", f"{path} is to be {state}: a target belongs to a link, and only there", code="invalid_value"
        )
    if item.get("exclusive") and state != "directory":
        raise LxdError(f"files: {path}", f"is to be {state}: only a directory can be exclusive", code="invalid_value")
    wanted = {name: item.get(name) for name in ("state", "target", "owner", "group", "sensitive", "exclusive")}
    wanted["path"] = path.rstrip("/")
    wanted["mode"] = _mode(path, item.get("mode"))
    if item.get("content") is not None:
        wanted["content"] = item["content"].encode(errors="surrogateescape")
    elif item.get("src") is not None:
        wanted["content"] = Path(find(item["src"]))
    return wanted


def _mode(path: str, mode: t.Any) -> int | None:
    """YAML has made a number of 0640 already; a string is octal."""
    if mode is None:
        return None
    if isinstance(mode, str) and _OCTAL.fullmatch(mode) and int(mode, 8) <= _HIGHEST:
        return int(mode, 8)
    if is_integer(mode) and _is_meant(mode):
        return mode
    raise LxdError(
        "files:",
        f"{path} has the mode {mode!r}, which is not octal",
        'write it in quotes, such as "0640"',
        code="invalid_value",
    )


def _is_meant(number: int) -> bool:
    """Whether a number is a mode written with a leading zero, and not one whose zero was forgotten.

    644 is a number, too: 01204, which is not a sensible mode. 511 reads both ways, and is 0777.
    """
    digits = str(number)
    read_as_octal = _OCTAL.fullmatch(digits) and _is_usual(int(digits, 8))
    return _is_usual(number) and (number in (0, 0o777) or not read_as_octal)


def _is_usual(mode: int) -> bool:
    """Whether no class of users may do more than the one before it, and set-id and sticky bits have a meaning."""
    if not 0 <= mode <= _HIGHEST:
        return False
    user, group, other = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    return not group & ~user and not other & ~group and (mode <= 0o777 or user & 1 == 1)
