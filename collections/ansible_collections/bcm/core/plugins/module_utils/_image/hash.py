# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of images: a hash over everything that goes into one.

Times, owners, the order of directories and the path of the checkout do not count, and neither do comments and names of
tasks. The mirror does not count either, since the archive's keyring authenticates its packages.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._base.errors import BcmError
from .._base.read import read_yaml
from . import recipe

# Raised when the way an image is made changes without any of its inputs changing.
_FORMAT = 1


def base_hash(settings: Mapping[str, Any], architecture: str) -> str:
    """Hash (64 hex digits) of the base image; ``settings`` are the ``image_*`` options, ``architecture`` is LXD's name.

    Raises BcmError if the keyring of the settings cannot be read.
    """
    return _digest(
        {
            "format": _FORMAT,
            "architecture": architecture,
            "suite": recipe.SUITE,
            "packages": recipe.PACKAGES,
            "excluded": recipe.EXCLUDED_PATHS,
            "included": recipe.INCLUDED_PATHS,
            "files": recipe.FILES,
            "templates": recipe.TEMPLATES,
            "links": recipe.LINKS,
            "enabled": recipe.ENABLED_UNITS,
            "snapshot": settings.get("image_snapshot") or "",
            "sources": [_source(source) for source in settings.get("image_sources") or []],
            "keyring": _keyring_digest(settings.get("image_keyring")),
        }
    )


def image_hash(
    base_hash: str, role_path: str, common_path: str, variables: Mapping[str, Any], architecture: str
) -> str:
    """Hash (64 hex digits) of a stack's image.

    ``role_path`` is the stack's role, ``common_path`` the role with the shared install tasks, ``variables`` the values
    of ``image.variables`` of its ``meta/stack.yml``, and the pins of its ``artifact``. Tasks of ``common_path`` that
    are named after a kind of artifact count for images of that kind. Raises BcmError if a file cannot be read.
    """
    kind = variables.get("artifact", {}).get("kind")
    return _digest(
        {
            "format": _FORMAT,
            "base": base_hash,
            "architecture": architecture,
            "role": _files(Path(role_path), ("tasks/install.yml", "tasks/install/**/*", "files/**/*")),
            "common": _files(Path(common_path), ("tasks/install*.yml", f"tasks/{kind}.yml")),
            "variables": variables,
        }
    )


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "suite": source["suite"],
        "components": source.get("components") or ["main"],
        "mirror": source.get("mirror") or "",
        "keyring": _keyring_digest(source.get("keyring")),
    }


def _keyring_digest(path: str | None) -> str:
    return _file_digest(Path(path).expanduser()) if path else ""


def _files(root: Path, patterns: tuple[str, ...]) -> list[list[str]]:
    found = {path.relative_to(root).as_posix(): path for path in _matches(root, patterns)}
    return [[name, _tasks_digest(path) if name.startswith("tasks/") else _file_digest(path)]
            for name, path in sorted(found.items())]  # fmt: skip


def _matches(root: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    for pattern in patterns:
        for path in root.glob(pattern):
            # Editors and Python leave files behind that go into no image.
            if not path.is_dir() and path.parent.name != "__pycache__" and not path.name.endswith(("~", ".swp")):
                yield path


def _tasks_digest(path: Path) -> str:
    try:
        return _digest_of_tasks(path.read_bytes())
    except (OSError, TypeError, ValueError, RecursionError):  # tags of Ansible; keys that are no text
        return _file_digest(path)


@functools.cache  # all stacks share the files of _common
def _digest_of_tasks(text: bytes) -> str:
    return _digest({"tasks": _without_names(read_yaml(text))})


def _without_names(tasks: Any) -> Any:
    if not isinstance(tasks, list):
        return tasks
    return [
        {
            key: _without_names(value) if key in ("block", "rescue", "always") else value
            for key, value in task.items()
            if key != "name"
        }
        if isinstance(task, dict)
        else task
        for task in tasks
    ]


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BcmError(
            f"{path}, which goes into an image,", f"cannot be read: {error.strerror}", code="io_error"
        ) from error


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
