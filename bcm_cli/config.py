# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of a data center: ``bcm_*`` in its group_vars, and the current data center."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Container, Mapping
from pathlib import Path

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.text import cell

from . import datacenter as datacenters
from . import setup
from .datacenter import DataCenter, UsageError
from .output import answer
from .stacks import catalogue, settings

# A word that YAML reads as itself: no quotes, no number-like or boolean surprise.
_PLAIN = re.compile(r"[A-Za-z_/.][\w./:@-]*|0|[1-9]\d{0,8}")
_BOOLEANS = {"yes", "no", "on", "off", "null", "y", "n"}
# of a line: value, comment, and whether the next line continues it
_REST = r"[ \t]*(?P<value>[^\n]*?)(?P<comment>[ \t]+#[^\n]*)?$(?P<more>\n(?:[ \t]+\S|- ))?"


def get(args: argparse.Namespace) -> int:
    """Show settings, with templates resolved."""
    datacenter: DataCenter = args.datacenter
    known = settings(datacenter)
    values = datacenter.settings(known)
    for key in args.keys:
        if key not in known:
            raise UsageError.of(names.unknown("setting", key, known))
    if len(args.keys) == 1 and not args.json:
        print(cell(values.get(args.keys[0])))
        return 0
    shown = {key: values.get(key) for key in args.keys or values}
    return answer(shown if args.json else [{"setting": key, "value": value} for key, value in shown.items()], args.json)


def put(args: argparse.Namespace) -> int:
    """Write settings."""
    wanted: dict[str, str] = {}
    for setting in args.settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f'"{setting}"', "is not a setting", "write KEY=VALUE, such as chain=signet")
        wanted[key] = value
    name = wanted.get("datacenter")
    datacenter = DataCenter(args.datacenter or name)
    if name and name != datacenter.name:
        raise UsageError(f"Data center {datacenter.name}", "is called as its folder", f'rename that to "{name}" first')
    if name:
        # Check this first: nothing can be read from a folder that names another data center.
        write(datacenter.group_vars, {"bcm_datacenter": wanted.pop("datacenter")})
    known = settings(datacenter)
    for key in wanted:
        if key not in known:
            raise UsageError.of(names.unknown("setting", key, known))
    if "chain" in wanted and wanted["chain"] not in names.CHAINS:
        raise UsageError.of(names.unknown("chain", wanted["chain"], names.CHAINS))
    lines = {known[key]: value for key, value in wanted.items()}
    if wanted.get("chain", names.TOY_CHAIN) != names.TOY_CHAIN:
        lines = {**_best_sources(datacenter, lines), **lines}
    write(datacenter.group_vars, lines)
    if name and not args.datacenter:
        datacenters.CURRENT.write_text(json.dumps({"datacenter": name}) + "\n", encoding="utf-8")
    return 0


def _best_sources(datacenter: DataCenter, given: Container[str]) -> dict[str, str]:
    """Return the first of each list of sources that is not replaced: chains other than regtest refuse lists."""
    lines = {}
    for name in (f"{stack.prefix}_source" for stack in catalogue(datacenter).values()):
        value = datacenter.variable(name)
        if isinstance(value, list) and value and name not in given:
            lines[name] = str(value[0])
            setup.step(f"{name} is {value[0]} now: a list of sources is for {names.TOY_CHAIN} alone")
    return lines


def write(path: Path, settings: Mapping[str, str | list[str] | dict[str, list[str]]]) -> None:
    """Change lines of a YAML file; keep all others, with their comments."""
    text = path.read_text(encoding="utf-8") if path.exists() else "---\n"
    for key, value in settings.items():
        found = re.search(rf"^{key}:{_REST}", text, re.M)
        line = f"{key}: {_yaml(value)}"
        if found is None:
            text += ("" if text.endswith("\n") else "\n") + line + "\n"
        elif found["more"] or found["value"].startswith(("|", ">", "&", "!")):
            raise BcmError(
                f"{path}:", f"{key} is written on several lines there", "change it with an editor", code="unsupported"
            )
        else:
            text = text[: found.start()] + line + (found["comment"] or "") + text[found.end() :]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _yaml(value: str | list[str] | dict[str, list[str]]) -> str:
    is_plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _BOOLEANS
    return str(value) if is_plain else json.dumps(value)
