# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders of data centers below inventories/: which there are, and another one like one of them."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base import names
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.vault import HEADER
from ansible_collections.bcm.core.plugins.module_utils._plan.settings import PREFIX

from . import config, datacenter
from .datacenter import DataCenter, UsageError
from .output import answer, say


def list_all(args: argparse.Namespace) -> int:
    """Show all data centers, the current one marked."""
    rows = [_row(name) for name in datacenter.names()]
    if args.json:
        return answer({"datacenters": rows}, True)
    return answer([_cells(row) for row in rows], False)


def create(args: argparse.Namespace) -> int:
    """Make a folder like another one, without its secrets, and say what is left to do."""
    name, known = args.name, datacenter.names()
    if args.like not in known:
        raise UsageError.of(names.unknown("data center", args.like, known))
    names.datacenter_names(name, names.TOY_CHAIN)
    if name in known:
        raise UsageError(f"Data center {name}", "exists already", "choose another name")
    like = DataCenter(args.like)
    _refuse_encrypted(like)
    _copy(like, name)
    made = DataCenter(name)
    left = {key.removeprefix(PREFIX): hint for key, hint in made.left_to_set.items()}
    facts = {"datacenter": name, "inventory": f"inventories/{name}", "chain": made.chain, "to_set": left}
    if args.json:
        return answer(facts, True)
    answer({key: facts[key] for key in ("datacenter", "inventory", "chain")}, False)
    say()
    for key, hint in left.items():
        say(f"{key} is not set yet: {hint}")
    say("next:")
    for key in left:
        say(f"  bcm -d {name} config set {key}=…")
    say(f"  bcm -d {name} stack start STACK")
    return 0


def _row(name: str) -> dict[str, Any]:
    """What a data center's folder says; one that cannot be read says why."""
    row: dict[str, Any] = {
        "datacenter": name, "current": name == datacenter.current(), "chain": None, "ca_provider": None,
        "endpoint": None, "to_set": [], "fault": None,
    }  # fmt: skip
    try:
        found = DataCenter(name)
        row |= {"chain": found.chain, "ca_provider": found.ca_provider, "to_set": [*found.left_to_set]}
        if not found.left_to_set:
            row["endpoint"] = found.endpoint
    except BcmError as error:
        row["fault"] = str(error)
    return row


def _cells(row: dict[str, Any]) -> dict[str, str]:
    notes = [row["fault"] or "", *(f"{key.removeprefix(PREFIX)} is not set yet" for key in row["to_set"])]
    return {
        "": "*" if row["current"] else "",
        "data center": row["datacenter"],
        "chain": row["chain"] or "",
        "CA": row["ca_provider"] or "",
        "endpoint": "" if row["endpoint"] is None else row["endpoint"] or "this machine",
        "notes": "; ".join(filter(None, notes)),
    }


def _refuse_encrypted(like: DataCenter) -> None:
    """Raise BcmError for files that only the password of that data center opens."""
    for file in like.variable_files():
        with file.open("rb") as opened:
            if opened.read(len(HEADER)) == HEADER.encode():
                raise BcmError(
                    file,
                    f"is encrypted with the password of {like.name}, which another data center does not have",
                    "name another one with --like, or copy the folder by hand, and encrypt that file for its own vault",
                    code="unsupported",
                )


def _copy(like: DataCenter, name: str) -> None:
    """Copy the folder to one that is no data center yet, so that none is there by half if this is interrupted."""
    there = like.inventory.with_name(name)
    new = there.with_name(f".{name}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(like.inventory, new, ignore=_without_secrets(like), symlinks=True)
    settings = new / like.group_vars.relative_to(like.inventory)
    config.write(settings, {"bcm_datacenter": name})
    new.rename(there)


def _without_secrets(like: DataCenter) -> Any:
    return lambda folder, _names: [like.secrets.name] if Path(folder) == like.inventory else []
