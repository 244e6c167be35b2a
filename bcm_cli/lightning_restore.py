# Copyright (c) 2026, Bitcoin Cache Machine contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`bcm lightning restore`: a node that lost its volumes, from its words and the newest copy of its channels."""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.bcm.core.plugins.module_utils._base.disk import disk_errors
from ansible_collections.bcm.core.plugins.module_utils._base.errors import BcmError
from ansible_collections.bcm.core.plugins.module_utils._base.names import unknown
from ansible_collections.bcm.core.plugins.module_utils._base.read import has_shape, read_object
from ansible_collections.bcm.core.plugins.module_utils._base.text import harmless
from ansible_collections.bcm.core.plugins.module_utils._datacenter import backup_keys, secrets_file
from ansible_collections.bcm.core.plugins.module_utils._plan.stack import Stack

from . import backup, playbook, setup, trezor_session
from .connect import connect
from .datacenter import DataCenter, UsageError
from .output import answer
from .stacks import checked
from .status import deployed

_DEADLINE = 300.0
#: what a copy says, besides channels whose fields may be missing
_SHAPE = {
    "datacenter": str, "chain": str, "stack": str, "node": str, "created": str, "backup": str, "sha256": str,
    "channels": [dict],
}  # fmt: skip
_SQLITE = b"SQLite format 3\0"
# of bbolt: at this offset in its first page
_BOLT, _BOLT_OFFSET = bytes.fromhex("edda0ced"), 16


@dataclass(frozen=True)
class Copy:
    """A copy that was decrypted and checked, and where it comes from."""

    place: str
    content: Mapping[str, Any]


def restore(args: argparse.Namespace) -> int:
    """Make a node's wallet again, and have its channels closed, after showing what happens to each."""
    datacenter: DataCenter = args.datacenter
    stack = checked(datacenter, [args.stack])[args.stack]
    check_restorable(datacenter, stack)
    secrets = _secrets(datacenter)
    if f"{stack.name}/recovery_words" not in secrets:
        raise BcmError(
            f"Data center {datacenter.name}",
            f"has no recovery words of {stack.name}",
            "put the newest copy of its secrets back, or add them with `bcm secret edit` as "
            f"{stack.name}/recovery_words",
            code="data_at_risk",
        )
    found = [_checked(datacenter, stack, secrets, place, sealed) for place, sealed in _sealed(args, datacenter, stack)]
    newest = max(found, key=lambda copy: str(copy.content["created"]))
    setup.step(f"Channels of {stack.name} at {newest.content['created']}, from {newest.place}:")
    answer([_fate(channel) for channel in newest.content["channels"]], False)
    setup.step(
        "All of them are closed. What was yours comes back on chain, less fees, once the other node is there. "
        "Coins in a channel with a node that never comes back are lost"
    )
    setup.confirm(f"Restore {stack.name}?", args.yes, "Nothing was restored")
    with setup.private_folder() as folder:
        variables = {f"{stack.prefix}_restore": True, f"{stack.prefix}_restore_backup": newest.content["backup"]}
        path = folder / "restore.json"
        path.write_text(json.dumps(variables), encoding="utf-8")
        return _start(args, stack.name, f"@{path}")


def check_restorable(datacenter: DataCenter, stack: Stack) -> None:
    """Raises UsageError if a stack has no channels."""
    if f"{stack.prefix}_restore_backup" not in datacenter.role_variables([stack]).names(stack):
        raise UsageError(f"Stack {stack.name}", "has no channels to restore", "name a Lightning node, such as lnd")


def _secrets(datacenter: DataCenter) -> dict[str, str]:
    path = datacenter.secrets / f"{datacenter.chain}.json"
    with trezor_session.session(datacenter) as environment:
        return secrets_file.read_secrets(path, trezor_session.vault(datacenter, environment))


def _start(args: argparse.Namespace, stack: str, *extra_vars: str) -> int:
    common = {"datacenter": args.datacenter, "yes": args.yes, "json": False, "check": False, "diff": False}
    run = {"state": "start", "stacks": [stack], "delete_data": False, "verbose": 0, "extra_vars": list(extra_vars)}
    return playbook.change(argparse.Namespace(**common, **run))


def _sealed(args: argparse.Namespace, datacenter: DataCenter, stack: Stack) -> list[tuple[str, bytes]]:
    """Return the newest copy of each place that has one, or of the one that was named. Raises BcmError."""
    declared = datacenter.variable("backups_targets") or {}
    if args.origin and args.origin not in declared:
        path = Path(args.origin).expanduser()
        if not path.exists() and "/" not in args.origin:
            raise UsageError.of(unknown("target", args.origin, sorted(declared)))
        with disk_errors(f"File {path}"):
            return [(str(path), path.read_bytes())]
    own = backup.folders(datacenter)
    wanted = [args.origin] if args.origin else list(declared)
    found = [item for name in wanted if name in own for item in _in_folder(datacenter, stack, own[name])]
    faults = [] if found or not own else ["the folders of this machine have no copy"]
    remote = [name for name in wanted if name not in own]
    if remote or not args.origin:
        found += _remote(args, datacenter, stack, remote, faults)
    if not found:
        raise BcmError(
            f"No copy of the channels of {stack.name}",
            f"was found: {'; '.join(faults) or 'there is no target'}",
            "name a file with --from. Without one, the recovery words bring back what is on chain, and channels are "
            f"lost: `bcm stack start {stack.name} -e {stack.prefix}_restore=true`",
            code="not_found",
        )
    return found


def _in_folder(datacenter: DataCenter, stack: Stack, folder: Path) -> list[tuple[str, bytes]]:
    with disk_errors(f"Folder {folder}"):
        names = backup.copies_in(folder, backup.beginning_of(datacenter, stack.name))
        return [(str(folder / names[-1]), (folder / names[-1]).read_bytes())] if names else []


def _remote(
    args: argparse.Namespace, datacenter: DataCenter, stack: Stack, wanted: list[str], faults: list[str]
) -> list[tuple[str, bytes]]:
    """Return the copies at servers, which only the instance reaches, and those of the instance itself."""
    with connect(datacenter) as client:
        instance = deployed(client).get(backup.STACK)
        is_running = instance is not None and instance["status"] == "Running"
    if not is_running and not wanted:
        return []
    if not is_running and (ended := _start(args, backup.STACK)):
        raise BcmError(f"Stack {backup.STACK}", f"does not start: the run ended with {ended}", code="not_ready")
    with connect(datacenter) as client:
        request = {"verb": "newest", "stack": stack.name, "targets": wanted}
        answered = backup.ask(datacenter, client, request, shape={"targets": {str: {str: str}}}, deadline=_DEADLINE)
    copies = []
    for name, item in answered["targets"].items():
        if "content" in item and (name or not args.origin):
            copies.append((f"target {name}" if name else f"the volume of {backup.STACK}", _decoded(item["content"])))
        elif name:
            setup.step(f"Target {name}: {harmless(item.get('fault', 'no answer'))}")
            faults.append(f"target {name}: {harmless(item.get('fault', 'no answer'))}")
    return copies


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise BcmError(f"Instance {backup.STACK}", "sent a copy that is damaged", code="damaged") from error


def _checked(
    datacenter: DataCenter, stack: Stack, secrets: Mapping[str, str], place: str, sealed: bytes
) -> Copy:
    """Decrypt a copy, and compare it with the data center and the node. Raises BcmError."""
    if sealed.startswith(_SQLITE) or sealed[_BOLT_OFFSET:].startswith(_BOLT):
        raise BcmError(
            place,
            "is a database of a node. An old one has former states of channels: publishing one lets the other side "
            "take all coins in the channel",
            "never put one back; name a copy that the stack backups made",
            code="data_at_risk",
        )
    key = backup.needed_secret(secrets, f"{backup.STACK}/sealing_key")
    try:
        content = read_object(backup_keys.decrypt(key, sealed))
        if not has_shape(content, _SHAPE):
            raise ValueError("it is not what the stack backups writes")
        digest = hashlib.sha256(base64.b64decode(str(content["backup"]), validate=True)).hexdigest()
        if digest != content["sha256"]:
            raise ValueError("its digest is another one")
    except ValueError as error:
        raise BcmError(place, f"is damaged: {error}", "use another copy", code="damaged") from error
    except BcmError as error:
        raise error.within(place) from error
    is_of = (content["datacenter"], content["chain"], content["stack"])
    if is_of != (datacenter.name, datacenter.chain, stack.name):
        raise BcmError(
            place, f"is of {' '.join(map(str, is_of))}, not of {datacenter.name} {datacenter.chain} {stack.name}",
            "use a copy of this node", code="wrong_key",
        )  # fmt: skip
    node = secrets.get(f"{stack.name}/public_key", content["node"])
    if content["node"] != node:
        raise BcmError(
            place, f"is of node {content['node']}, not of {node}", "use a copy of this node", code="wrong_key"
        )
    return Copy(place, content)


def _fate(channel: Mapping[str, Any]) -> dict[str, Any]:
    """What becomes of a channel."""
    peer = channel.get("peer") or channel.get("public_key") or "a node that is not known"
    local = channel.get("local")
    return {
        "peer": peer,
        "channel": channel.get("point"),
        "capacity": channel.get("capacity"),
        "yours": local,
        "what happens": "nothing of yours was in it" if local == 0 else "closed by the peer, yours less fees on chain",
    }
