# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm artifact repin`: pin another version of a release in its stack.yml, after verifying its signatures."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError

from . import artifact, setup
from .datacenter import UsageError
from .output import say
from .stacks import checked

_VERSION = re.compile(r"[\w.+~-]*\d[\w.+~-]*")
_Path = tuple[str, ...]


def repin(args: argparse.Namespace) -> int:
    """Verify, show what changes, ask, write. Nothing that was not verified is written."""
    stack = checked(args.datacenter, [args.stack])[args.stack]
    if stack.artifact.of:
        remedy = f"type `bcm artifact repin {stack.artifact.of} {args.version}`"
        raise UsageError(stack.name, f"is made of the artifact of {stack.artifact.of}", remedy)
    source: str = args.catalogue_source or next(iter(stack.artifact.sources))
    if source not in stack.artifact.sources:
        raise UsageError.of(names.unknown(f"source of {stack.name}", source, stack.artifact.sources))
    if not _VERSION.fullmatch(args.version):
        raise UsageError(f'"{args.version}"', "is not a version", "write it as the release is called, such as 31.1")
    release = stack.artifact.release(stack.name, source, {"version": args.version})
    floor = stack.artifact.floor
    fault = None if floor is None or args.allow_below_floor else floor.fault(release.name, args.version)
    if fault:
        raise BcmError(f"{fault};", remedy="choose a newer version, or add --allow-below-floor", code="below_floor")
    with artifact.open_artifacts(args) as found:
        found.source = None  # a mirror has only versions that were pinned before
        pins, explained = found.published(release, stack.artifact.keys_path)
    say(f"{release.name} {args.version}: {explained}")
    changes: dict[_Path, str] = {("version",): args.version}
    changes |= {("files", name, pin.algorithm): pin.digest for name, pin in pins.items()}
    text = stack.source.read_text(encoding="utf-8")
    changed = _replace_scalars(text, {("artifact", "sources", source, *key): value for key, value in changes.items()})
    if changed is None:
        raise BcmError(
            stack.source,
            "is written in a way that cannot be changed safely",
            "change it with an editor",
            code="unsupported",
        )
    if changed == text:
        print("This version is already pinned")
        return 0
    before, after = text.splitlines(keepends=True), changed.splitlines(keepends=True)
    print("".join(difflib.unified_diff(before, after, str(stack.source), str(stack.source))), end="", flush=True)
    setup.confirm("Write it?", args.yes, "Nothing was written")
    temporary = stack.source.with_name(f".{stack.source.name}.new")
    try:
        temporary.write_text(changed, encoding="utf-8")
        os.replace(temporary, stack.source)
    except OSError as error:
        raise BcmError(
            stack.source, f"cannot be written: {error.strerror}; nothing was changed", code="io_error"
        ) from error
    return 0


def _replace_scalars(text: str, changes: Mapping[_Path, str]) -> str | None:
    """Return a YAML text with other scalars at some paths, all else unchanged; None if that is not possible."""
    places = {}
    expected = yaml.safe_load(text)
    for (*above, last), value in changes.items():
        node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        parent = expected
        for key in above:
            parent = parent[key]
        parent[last] = value
        for key in (*above, last):
            node = next(entry for name, entry in node.value if name.value == key)
        quote = node.style or ('"' if last == "version" else "")
        places[node.start_mark.index, node.end_mark.index] = f"{quote}{value}{quote}"
    for (start, end), value in sorted(places.items(), reverse=True):
        text = text[:start] + value + text[end:]
    return text if yaml.safe_load(text) == expected else None
