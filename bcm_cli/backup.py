# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm backup`: the copies of channel backups, and the keys of the stack that makes them."""

from __future__ import annotations

import argparse
import base64
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.disk import disk_errors
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.read import read_moment
from ansible_collections.bcm.core.plugins.module_utils._base.text import duration
from ansible_collections.bcm.core.plugins.module_utils._datacenter import backup_keys, secrets_file
from ansible_collections.bcm.core.plugins.module_utils._lxd.client import Client
from ansible_collections.bcm.core.plugins.module_utils._lxd.lxd_errors import LxdError
from ansible_collections.bcm.core.plugins.module_utils._lxd.programs import ask_program

from . import setup
from .connect import connect
from .datacenter import DataCenter
from .output import answer, say
from .stacks import catalogue
from .status import deployed
from .trezor_session import vault

STACK = "backups"
_COPY = re.compile(r"[a-z0-9][a-z0-9.+-]{0,200}\.age", re.IGNORECASE)
_ANSWERS = Path("scripts/answers.py")
_DEADLINE = 60.0
#: seconds that the instance waits for news before it says that there are none
_AWAITED = 20
#: seconds until the endpoint is asked again that did not answer
_PAUSE = 5


def status(args: argparse.Namespace) -> int:
    """Show where copies are, and how old; the exit status is 3 if a target lacks the newest one."""
    datacenter: DataCenter = args.datacenter
    with connect(datacenter) as client:
        check_deployed(datacenter, client)
        rows = describe_copies(datacenter, client)
    if args.json:
        answer({"copies": rows}, True)
    else:
        if not rows:
            say("There is nothing to copy yet: start a Lightning node, such as lnd, and set backups_targets")
        answer([describe_for_people(row) for row in rows], False)
    return 0 if all(row["state"] == "up to date" for row in rows) else 3


def describe_copies(datacenter: DataCenter, client: Client) -> list[dict[str, Any]]:
    """Describe the newest copy of each node at each target. Raises LxdError."""
    shape = {"sources": dict, "targets": dict, "recipient": str}
    found = ask(datacenter, client, {"verb": "state"}, shape=shape)
    return [
        row
        for stack, source in sorted(found["sources"].items())
        for row in _rows(stack, source, found["targets"], folders(datacenter))
    ]


def follow(args: argparse.Namespace) -> int:
    """Copy each new backup to the folders of this machine that are targets, until Ctrl-C."""
    datacenter: DataCenter = args.datacenter
    wanted = folders(datacenter)
    if not wanted:
        raise BcmError(
            f"Data center {datacenter.name}",
            "has no folder of this machine among its targets",
            "add one to backups_targets, such as {type: controller, path: ~/channels}",
            code="not_ready",
        )
    known: dict[str, str] = {}
    while True:
        try:
            with connect(datacenter) as client:
                check_deployed(datacenter, client)
                while True:
                    asked = {"verb": "news", "known": known, "seconds": _AWAITED}
                    copies = ask(datacenter, client, asked, shape={"copies": {str: str}})["copies"]
                    for name, content in copies.items():
                        known[_stack_of(datacenter, name)] = name
                        for path in wanted.values():
                            keep(path, name, content)
                        setup.step(f"Copied {name}")
        except LxdError as error:
            setup.step(f"{error}; it is asked again")
            time.sleep(_PAUSE)


def key(args: argparse.Namespace) -> int:
    """Print the line for authorized_keys of the SSH servers that are targets."""
    secret = _secret(args.datacenter, "ssh_key")
    print(f"restrict {backup_keys.ssh_public_key(secret)} bcm-{args.datacenter.name}")
    return 0


def identity(args: argparse.Namespace) -> int:
    """Print the key with which age decrypts copies."""
    print(backup_keys.identity(_secret(args.datacenter, "sealing_key")))
    return 0


def check_deployed(datacenter: DataCenter, client: Client) -> None:
    """Raises BcmError if nothing makes copies."""
    if STACK not in deployed(client):
        raise BcmError(
            f"Data center {datacenter.name}",
            "makes no copies of channel backups",
            f"set backups_targets, and type `bcm stack start {STACK}`",
            code="not_ready",
        )


def ask(
    datacenter: DataCenter, client: Client, request: Mapping[str, Any], *, shape: Any, deadline: float = _DEADLINE
) -> dict[str, Any]:
    """Ask the stack that makes copies. Raises LxdError."""
    program = catalogue(datacenter)[STACK].role_path / _ANSWERS
    return ask_program(client, STACK, program, request, shape=shape, deadline=deadline)


def folders(datacenter: DataCenter) -> dict[str, Path]:
    """Return the targets that are folders of this machine."""
    return {
        name: Path(target["path"]).expanduser()
        for name, target in (datacenter.variable("backups_targets") or {}).items()
        if target.get("type") == "controller"
    }


def copies_in(folder: Path, beginning: str) -> list[str]:
    """Return the names of copies in a folder, the oldest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(name for name in names if name.startswith(beginning) and _COPY.fullmatch(name))


def beginning_of(datacenter: DataCenter, stack: str) -> str:
    """Return what names of copies of a stack begin with."""
    return f"{datacenter.name}-{datacenter.chain}-{stack}-"


def keep(folder: Path, name: str, content: str) -> None:
    """Write a copy, which is given in Base64, to a folder. Raises BcmError."""
    with disk_errors(f"Folder {folder}"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = folder / f"{name}.new"
        fresh.write_bytes(base64.b64decode(content))
        fresh.replace(folder / name)


def _stack_of(datacenter: DataCenter, name: str) -> str:
    """Return the stack of a copy by its name. Raises BcmError for a name that is not one of ours."""
    start = beginning_of(datacenter, "").removesuffix("-")
    if not (_COPY.fullmatch(name) and name.startswith(start)):
        raise BcmError(f"Instance {STACK}", f"names a copy {name[:80]}", "look into it", code="damaged")
    return name.removeprefix(start).rpartition("-")[0]


def _rows(
    stack: str, source: Mapping[str, Any], targets: Mapping[str, Any], own: Mapping[str, Path]
) -> list[dict[str, Any]]:
    newest = source.get("copy")
    rows = []
    for name, target in targets.items():
        had = target["delivered"].get(stack, {})
        rows.append(_row(stack, name, target["type"], source, had.get("copy"), had.get("time"), target["fault"]))
    for name, folder in own.items():
        there = bool(newest) and (folder / str(newest)).is_file()
        moment = datetime.fromtimestamp((folder / str(newest)).stat().st_mtime, UTC).isoformat() if there else None
        rows.append(_row(stack, name, "controller", source, newest if there else None, moment, None))
    return rows


def _row(
    stack: str, target: str, kind: str, source: Mapping[str, Any], copy: Any, moment: Any, fault: Any
) -> dict[str, Any]:
    newest, broken = source.get("copy"), source.get("fault")
    is_current = bool(newest) and copy == newest and not broken
    return {
        "stack": stack,
        "target": target,
        "type": kind,
        "copy": copy,
        "copied": moment,
        "age": _age(moment),
        "state": "up to date" if is_current else "failed" if fault or broken else "behind",
        "since": None if is_current else source.get("created"),
        "why": broken or fault,
    }


def _age(moment: Any) -> int | None:
    """Return the seconds since a moment."""
    try:
        return int((datetime.now(UTC) - read_moment(moment)).total_seconds())
    except ValueError:
        return None


def describe_for_people(row: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a copy in few columns."""
    state = row["state"]
    if row["since"]:
        state = f"{state} since {row['since']}"
    if row["why"]:
        state = f"{state}: {row['why']}"
    age = None if row["age"] is None else duration(row["age"])
    return {**{key: row[key] for key in ("stack", "target", "type")}, "age": age, "state": state}


def _secret(datacenter: DataCenter, end: str) -> str:
    path = datacenter.secrets / f"{datacenter.chain}.json"
    return needed_secret(secrets_file.read_secrets(path, vault(datacenter)), f"{STACK}/{end}")


def needed_secret(values: Mapping[str, str], name: str) -> str:
    """Return a secret. Raises BcmError if there is none."""
    if name not in values:
        raise BcmError(
            f"Secret {name}", "does not exist yet", f"`bcm stack start {STACK}` makes it", code="not_ready"
        )
    return values[name]
